"""What the coordinator makes of Prometheus' and Jaeger's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from fake_clock import Clock
from fake_telemetry import FakeJaeger, buckets
from fake_traces import SECOND, otlp
from live_bed import NODES, Bed

from imbres_gym.live.cluster import LiveCluster
from imbres_gym.live.coordinator import Coordinator
from imbres_gym.live.http import Unreachable
from imbres_gym.live.measurement import Measurement
from imbres_gym.live.observer import Node
from imbres_gym.live.prometheus import PrometheusClient

HOSTS = [Node(name, f"192.168.0.{index + 1}", 4.0, 8000.0, True) for index, name in enumerate(NODES)]


@pytest.fixture
def measure(bed: Bed) -> Iterator[Callable[..., Measurement]]:
    made: list[Coordinator] = []

    def once(**changes: Any) -> Measurement:
        coordinator = Coordinator(bed.config(**changes), HOSTS)
        made.append(coordinator)
        return coordinator.measure([pod["metadata"]["name"] for pod in bed.kubernetes.of("pods")])

    yield once
    for coordinator in made:
        coordinator.close()


@pytest.mark.parametrize(
    "labels",
    [
        {"node": "node-b"},
        {"nodename": "node-b", "instance": "10.0.0.9:9100"},
        {"instance": "node-b:9100"},
        {"instance": "192.168.0.2:9100"},
        {"instance": "192.168.0.2"},
    ],
)
def test_a_node_is_known_by_name_or_address(
    bed: Bed, measure: Callable[..., Measurement], labels: dict[str, str]
) -> None:
    bed.replaced["imbres_node_cpu_utilisation"] = [(labels, 0.7)]
    interference = measure().interference
    assert interference[1, 0] == 0.7
    assert np.isnan(interference[[0, 2], 0]).all()


@pytest.mark.parametrize(
    ("metric", "series", "kind"),
    [
        ("imbres_node_cpu_utilisation", [({"node": "node-a"}, -0.1)], "contradictory"),
        ("imbres_node_cpu_utilisation", [({"node": "node-a"}, 7.0)], "contradictory"),
        ("imbres_node_cpu_utilisation", [({"node": "node-a"}, float("nan"))], "not-a-number"),
        ("imbres_node_cpu_utilisation", [({"node": "node-z"}, 0.1)], "unknown-node"),
        ("imbres_requests_total", [({"pod": "cart-14"}, -1.0)], "contradictory"),
        ("imbres_requests_total", [({"pod": "nobody"}, 1.0)], "unknown-pod"),
        ("imbres_requests_total", [({}, 1.0)], "unknown-pod"),
        ("imbres_own_latency_seconds_bucket", [({"pod": "cart-14", "le": "soon"}, 1.0)], "contradictory"),
        ("imbres_own_latency_seconds_bucket", [({"pod": "cart-14", "le": "1"}, 1.0)], "contradictory"),
        ("imbres_e2e_latency_seconds_bucket", buckets({"request_class": "other"}, 1.0, 0.1), "unknown-class"),
        ("imbres_e2e_failures_total", [({"request_class": "browse"}, -1.0)], "contradictory"),
    ],
)
def test_what_is_impossible_counts_as_missing(
    bed: Bed, measure: Callable[..., Measurement], metric: str, series: Any, kind: str
) -> None:
    assert [pod["metadata"]["name"] for pod in bed.pods("cart")] == ["cart-14", "cart-15", "cart-16"]
    bed.replaced[metric] = series
    assert measure().dropped == {kind: 1}


def test_failures_are_counted_beside_the_latencies(bed: Bed, make_live: Callable[..., LiveCluster]) -> None:
    bed.replaced["imbres_e2e_failures_total"] = [({"request_class": "browse"}, 2.0)]
    telemetry = make_live().reset(0)
    assert (telemetry.requests.tolist(), telemetry.failed.tolist()) == ([160], [10])
    assert len(telemetry.latencies_ms[0]) == 150
    assert telemetry.slow.tolist() == [10]
    assert telemetry.workload_rps.tolist() == [32.0]


def test_requests_slower_than_the_sla_are_counted(bed: Bed, make_live: Callable[..., LiveCluster]) -> None:
    bed.e2e_s = 0.1  # uniform between 50 and 150 ms; the SLA is 100 ms
    telemetry = make_live().reset(0)
    assert telemetry.slow.tolist() == [pytest.approx(75, abs=1)]


def test_latencies_may_be_in_milliseconds_and_one_class_needs_no_label(
    bed: Bed, make_live: Callable[..., LiveCluster]
) -> None:
    bed.replaced["imbres_e2e_latency_seconds_sum"] = [({}, 30.0 * 30.0)]
    bed.replaced["imbres_e2e_latency_seconds_bucket"] = [
        ({"le": "20"}, 15.0),
        ({"le": "40"}, 30.0),
        ({"le": "+Inf"}, 30.0),
    ]
    telemetry = make_live({"prometheus": {"url": bed.prometheus.url, "e2e_unit": "ms"}}).reset(0)
    assert telemetry.e2e_ms[0, :3].tolist() == pytest.approx([30.0, 20.0, 38.0])
    assert telemetry.requests.tolist() == [150]


def test_an_unknown_cpu_use_is_not_an_idle_container(bed: Bed, make_live: Callable[..., LiveCluster]) -> None:
    cluster = make_live()
    cluster.reset(0)
    used = [({"pod": pod["metadata"]["name"]}, 0.2) for pod in bed.pods("cart")]
    bed.replaced["container_cpu_usage_seconds_total"] = used[:1]
    telemetry = cluster.advance(5.0)
    assert telemetry.cpu_utilisation[1].tolist() == [0.4, 0.2, 0.2]  # the others as they were
    assert telemetry.cpu_utilisation[0].tolist() == [0.2, 0.2, 0.2]
    assert telemetry.container_cpu.tolist() == [0.2, 0.2, 0.2, 0.4, 0.2, 0.2, 0.2, 0.2, 0.2]
    assert cluster.reasons == ()  # new pods are not in the metrics at once
    for _ in range(12):
        cluster.advance(5.0)
    assert cluster.reasons == ("partial: the CPU use of 8 of 9 containers is not known",)


def test_who_does_without_the_cpu_use_leaves_it_out(bed: Bed, make_live: Callable[..., LiveCluster]) -> None:
    bed.replaced["container_cpu_usage_seconds_total"] = []
    cluster = make_live({"prometheus": {"url": bed.prometheus.url, "queries": {"pod_cpu_cores": ""}}})
    cluster.reset(0)
    for _ in range(13):
        telemetry = cluster.advance(5.0)
    assert cluster.reasons == ()
    assert telemetry.cpu_utilisation.max() == 0.0


def test_a_latency_without_a_fresh_sample_keeps_its_value_and_ages(
    bed: Bed, make_live: Callable[..., LiveCluster]
) -> None:
    cluster = make_live()
    before = cluster.reset(0)
    bed.silent = {pod["metadata"]["name"] for pod in bed.pods("cart")}
    after = cluster.advance(5.0)
    assert after.samples[1].tolist() == [0, 0, 0]
    assert after.own_latency_ms[1].tolist() == before.own_latency_ms[1].tolist()
    assert after.age_s[1].tolist() == [7.0, 7.0, 7.0]
    assert after.samples[0].tolist() == [50, 50, 50]


@pytest.fixture
def jaeger() -> Iterator[FakeJaeger]:
    jaeger = FakeJaeger()
    yield jaeger
    jaeger.close()


def rows(bed: Bed) -> list[Any]:
    """A request through the first pod of each microservice; own latencies 40, 20 and 26 ms."""
    pod = {name: bed.pods(name)[0]["metadata"]["name"] for name in ("front", "cart", "stock")}
    return [
        ("a", None, "front", "ask", "server", pod["front"], 0, 90),
        ("c", "a", "cart", "get", "server", pod["cart"], 10, 30),
        ("e", "a", "stock", "get", "server", pod["stock"], 34, 60),
    ]


def test_traces_fill_in_where_there_is_no_histogram(
    bed: Bed, jaeger: FakeJaeger, make_live: Callable[..., LiveCluster]
) -> None:
    jaeger.answers["/api/v3/traces"] = (200, otlp(rows=rows(bed)))
    bed.replaced["imbres_own_latency_seconds_bucket"] = []
    cluster = make_live({"jaeger": {"url": jaeger.url}})
    telemetry = cluster.reset(0)
    assert telemetry.own_latency_ms[:, 0].tolist() == pytest.approx([44.0, 20.0, 26.0], rel=1e-3)
    assert telemetry.samples[:, 0].tolist() == [1, 1, 1]
    assert telemetry.samples[:, 1:].sum() == 0
    assert cluster.reasons == ()
    spans = telemetry.spans
    assert spans["container"].tolist() == [0, 3, 6]
    assert spans["own_ms"].tolist() == pytest.approx([44.0, 20.0, 26.0], rel=1e-3)
    assert len(cluster.advance(5.0).spans) == 0


@pytest.mark.parametrize(("use", "front_ms"), [("missing", 8.0), ("always", 44.0)])
def test_which_source_goes_first_is_configured(
    bed: Bed, jaeger: FakeJaeger, make_live: Callable[..., LiveCluster], use: str, front_ms: float
) -> None:
    jaeger.answers["/api/v3/traces"] = (200, otlp(rows=rows(bed)))
    telemetry = make_live({"jaeger": {"url": jaeger.url, "use": use}}).reset(0)
    assert telemetry.own_latency_ms[0, 0] == pytest.approx(front_ms, rel=1e-3)
    assert telemetry.own_latency_ms[0, 1] == pytest.approx(8.0)


def test_traces_are_asked_for_and_timed_by_the_clock_of_prometheus(
    bed: Bed, jaeger: FakeJaeger, make_live: Callable[..., LiveCluster]
) -> None:
    bed.prometheus.time_s = SECOND + 3.0
    jaeger.answers["/api/v3/traces"] = (200, otlp(rows=rows(bed)))
    spans = make_live({"jaeger": {"url": jaeger.url, "window_s": 15, "delay_s": 2}}).reset(0).spans
    (_, asked) = jaeger.asked[0]
    edges = [datetime.fromisoformat(asked[f"query.start_time_{edge}"]).timestamp() for edge in ("min", "max")]
    assert edges == pytest.approx([SECOND - 14.0, SECOND + 1.0], abs=10.0)
    # By that clock the first span began 3 s before the end of the first interval of 5 s.
    assert spans["start_s"][0] == pytest.approx(2.0, abs=10.0)


def test_the_times_of_spans_count_from_the_reset(
    bed: Bed, jaeger: FakeJaeger, make_live: Callable[..., LiveCluster], clock: Clock
) -> None:
    bed.prometheus.time_s = SECOND + 3.0
    cluster = make_live({"jaeger": {"url": jaeger.url}})
    for trace in ("first", "second"):
        clock.sleep(7200.0)  # on standby, or between two episodes
        jaeger.answers["/api/v3/traces"] = (200, otlp(trace, rows(bed)))
        # The interval of 5 s ended 3 s after the span began.
        assert cluster.reset(0).spans["start_s"][0] == pytest.approx(2.0, abs=3.0)


def test_without_jaeger_the_run_goes_on(bed: Bed, jaeger: FakeJaeger, make_live: Callable[..., LiveCluster]) -> None:
    jaeger.answers = {"/api/v3/traces": (500, b""), "/api/traces": (500, b"")}
    cluster = make_live({"jaeger": {"url": jaeger.url}})
    telemetry = cluster.reset(0)
    assert telemetry.samples.min() == 50
    assert cluster.reasons == ()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((503, b"starting up"), "no JSON"),
        ((400, {"status": "error", "error": "parse error"}), "parse error"),
        ((200, {"status": "success", "data": {"resultType": "matrix", "result": []}}), "no vector"),
        ((200, []), "no object"),
    ],
)
def test_an_answer_of_no_use_is_said(bed: Bed, answer: tuple[int, Any], said: str) -> None:
    bed.prometheus.broken = answer
    with PrometheusClient(bed.prometheus.url, 3.0) as client, pytest.raises(Unreachable, match=said):
        client.query("imbres_requests_total")


def test_a_series_that_cannot_be_read_is_left_out(bed: Bed) -> None:
    result = [{"metric": {"pod": "a"}, "value": [1.0, "2"]}, {"metric": {}}, {"value": [1.0, "+Inf"], "metric": {}}, 7]
    bed.prometheus.broken = (200, {"status": "success", "data": {"resultType": "vector", "result": result}})
    with PrometheusClient(bed.prometheus.url, 3.0) as client:
        vector = client.query("imbres_requests_total")
    assert [(sample.labels, sample.value) for sample in vector.samples] == [({"pod": "a"}, 2.0)]
    assert vector.dropped == 3
