"""A deployed application does what its file says: calls, CPU demand, latencies, spans; and it scales."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from live_cluster import APPLICATION, NAMESPACE, TRACES, Bed, get, percentile, query, wait_for

from imbres_gym.live.load import Request
from scripts.testbed import layout, stress

RPS = 20.0
LOAD_S = 40.0


class Measured:
    """What one period of load left in Prometheus."""

    def __init__(self, bed: Bed) -> None:
        time.sleep(5.0)  # every pod was scraped before the load
        self.began = time.time()
        self.requests = bed.load(RPS, LOAD_S)
        time.sleep(5.0)  # and after it
        self.window = f"{round(time.time() - self.began) + 6}s"

    def increase(self, metric: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Increase of a counter over the load, without Prometheus' extrapolation."""
        by = ", ".join(labels)
        return query(f"sum by ({by}) (max_over_time({metric}[{self.window}]) - {metric} offset {self.window})", *labels)


@pytest.fixture(scope="module")
def measured(deployed: Bed) -> Measured:
    deployed.load(5.0, 5.0)  # every counter has its series
    time.sleep(5.0)
    return Measured(deployed)


def test_every_request_succeeds(measured: Measured) -> None:
    assert Counter(request.code for request in measured.requests) == {200: len(measured.requests)}
    assert len(measured.requests) == pytest.approx(RPS * LOAD_S, rel=0.15)


def test_the_microservices_are_called_as_the_call_trees_say(deployed: Bed, measured: Measured) -> None:
    calls = measured.increase("imbres_requests_total", "microservice")
    browse, buy = (sum(r.request_class == name for r in measured.requests) for name in ("browse", "buy"))
    expected = {"frontend": browse + buy, "catalogue": browse, "pricing": browse + buy, "orders": buy}
    assert {name: calls[name,] for name in expected} == expected


def test_the_load_is_spread_over_all_replicas(deployed: Bed, measured: Measured) -> None:
    pods = measured.increase("imbres_requests_total", "microservice", "pod")
    assert Counter(name for name, _ in pods) == dict.fromkeys(deployed.application.microservices, 3)
    for (name, _), count in pods.items():
        total = sum(value for (other, _), value in pods.items() if other == name)
        # kube-proxy chooses at random: five standard deviations.
        assert count == pytest.approx(total / 3, abs=5.0 * (total * 2 / 9) ** 0.5)


def test_each_call_costs_the_cpu_that_the_file_says(deployed: Bed, measured: Measured) -> None:
    seconds = measured.increase("container_cpu_usage_seconds_total{container='microservice'}", "pod")
    calls = measured.increase("imbres_requests_total", "microservice")
    for name, service in deployed.application.microservices.items():
        used_ms = 1000.0 * sum(value for (pod,), value in seconds.items() if pod.startswith(f"{name}-"))
        (cpu_ms,) = {operation.cpu_ms for operation in service.operations.values()}
        # What it costs to be measured and probed comes on top: up to 5 ms a second and pod.
        background_ms = 3 * 5.0 * (LOAD_S + 10.0)
        assert 0.8 * cpu_ms * calls[name,] < used_ms < 1.3 * cpu_ms * calls[name,] + background_ms, name


def test_e2e_latency_in_prometheus_is_what_the_client_saw(measured: Measured) -> None:
    counts = measured.increase("imbres_e2e_latency_seconds_count", "request_class")
    seen = Counter((request.request_class,) for request in measured.requests)
    assert counts == seen
    window = measured.window
    buckets = f"max_over_time(imbres_e2e_latency_seconds_bucket[{window}])"
    buckets += f" - imbres_e2e_latency_seconds_bucket offset {window}"
    median = query(f"1000 * histogram_quantile(0.5, sum by (le) ({buckets}))")[()]
    client = percentile(measured.requests, 50.0)
    # The client also waits for its connection; buckets are 15 % wide.
    assert 0.6 * client < median < 1.1 * client


def test_own_latency_is_what_is_left_of_the_demand_or_more_and_less_than_e2e(measured: Measured) -> None:
    total = measured.increase("imbres_own_latency_seconds_sum", "microservice")
    count = measured.increase("imbres_own_latency_seconds_count", "microservice")
    mean_ms = {name: 1000.0 * total[key] / count[key] for key in total for name in key}
    # What answering and calling cost, scrapes and probes included, is taken off the demand and spent outside the span:
    # most of it where calls are few. `messages`: answered and made by a call.
    overhead = f"max by (microservice) (max_over_time(imbres_service_overhead_ms[{measured.window}]))"
    overhead_ms = {name: value for (name,), value in query(overhead, "microservice").items()}
    e2e_ms = sum(request.latency_ms for request in measured.requests) / len(measured.requests)
    for name, demand_ms, messages in (
        ("frontend", 3.0, 3),
        ("catalogue", 4.0, 1),
        ("pricing", 3.0, 1),
        ("orders", 4.0, 1),
    ):
        assert 0.7 * (demand_ms - messages * overhead_ms[name]) < mean_ms[name] < e2e_ms, name
    assert overhead_ms["catalogue"] < 4.0, "called most: some of its demand is in the span"


def test_traces_hold_the_call_tree_and_agree_with_the_histograms(measured: Measured) -> None:
    found = get(f"{TRACES}/api/traces?service=frontend&start={int(measured.began * 1e6)}&limit=1000")["data"]
    whole = [trace for trace in found if len(trace["spans"]) in {6, 7}]
    expected = 0.2 * len(measured.requests)
    assert len(whole) == pytest.approx(expected, abs=5.0 * (expected * 0.8) ** 0.5 + 2)
    for trace in whole:
        ids = {span["spanID"] for span in trace["spans"]}
        parents = [span["references"][0]["spanID"] for span in trace["spans"] if span["references"]]
        assert set(parents) <= ids
        assert len(parents) == len(ids) - 1
    roots = [span for trace in whole for span in trace["spans"] if not span["references"]]
    mean_ms = sum(span["duration"] for span in roots) / len(roots) / 1000.0
    client_ms = sum(request.latency_ms for request in measured.requests) / len(measured.requests)
    assert mean_ms == pytest.approx(client_ms, rel=0.3)


def test_interference_on_a_node_slows_the_containers_there(deployed: Bed) -> None:
    noisy = layout.NODES[0].name
    assert any(pod.spec.nodeName == noisy for pod in deployed.pods())
    stress.start(layout.NODES[0], 0.55)
    try:
        time.sleep(5.0)
        after = Measured(deployed)
    finally:
        stress.stop(layout.NODES[0])
    total = after.increase("imbres_own_latency_seconds_sum", "node")
    count = after.increase("imbres_own_latency_seconds_count", "node")
    means = {node: total[node,] / count[node,] for (node,) in total}
    others = [mean for node, mean in means.items() if node != noisy]
    assert means[noisy] > 1.5 * max(others), means


def test_replicas_are_added_and_removed_without_a_failed_request(deployed: Bed) -> None:
    requests: list[Request] = []
    thread = threading.Thread(target=lambda: requests.extend(deployed.load(10.0, 45.0, seed=2)))
    thread.start()
    deployed.scale("pricing", 4)
    out_s = wait_for(lambda: deployed.ready("pricing") == 4, "four ready", 40.0)
    deployed.scale("pricing", 2)
    in_s = wait_for(lambda: len(deployed.pods("pricing")) == 2, "two left", 40.0)
    thread.join()
    deployed.scale("pricing", 3)
    wait_for(lambda: deployed.ready("pricing") == 3, "three ready", 40.0)
    print(f"scaled out in {out_s:.1f} s, in in {in_s:.1f} s")
    assert Counter(request.code for request in requests) == {200: len(requests)}
    assert len(requests) > 300


def test_prometheus_follows_the_pods(deployed: Bed) -> None:
    expected = {pod.metadata.name for pod in deployed.pods()}
    selector = f"up{{job='pods', namespace='{NAMESPACE}', application='{APPLICATION}'}} == 1"
    wait_for(lambda: {pod for (pod,) in query(selector, "pod")} == expected, "targets", 30.0)
