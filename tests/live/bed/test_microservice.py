"""The synthetic microservice does what the application file says, and says what it did."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from synthetic import ask, chain, running

from scripts.testbed.service import microservice
from scripts.testbed.service.microservice import (
    BUCKETS_S,
    Histogram,
    Microservice,
    Trace,
    exchange,
    loops_per_ms,
    parse_traceparent,
    union,
)


def samples(service: Microservice) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in text_string_to_metric_families(service.metrics.text()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def served(service: Microservice) -> Counter[int]:
    return Counter({code: count for (_, code), count in service.metrics.requests.items()})


def ask_often(application: dict[str, Any], count: int, **environment: str) -> dict[str, Microservice]:
    async def main() -> dict[str, Microservice]:
        async with running(application, **environment) as services:
            for _ in range(count):
                await ask(services["a"], "/call/get/0")
            return services

    return asyncio.run(main())


def test_a_request_makes_the_calls_of_the_tree() -> None:
    services = ask_often(chain(), 5)
    assert {name: served(service)[200] for name, service in services.items()} == {"a": 5, "b": 5, "c": 5}


def test_repeats_and_probabilities_are_obeyed() -> None:
    tree = {"call": "a/A", "stages": [[{"call": "b/B", "repeat": 3}, {"call": "c/C", "probability": 0.0}]]}
    services = ask_often(chain(request_classes={"get": {"share": 1.0, "tree": tree}}), 4)
    assert {name: served(service)[200] for name, service in services.items()} == {"a": 4, "b": 12, "c": 0}


def test_own_latency_leaves_out_the_children_and_e2e_latency_holds_them() -> None:
    application = chain()
    application["stores"] = {"s": {"operations": {"S": 40.0}}}
    entry = ask_often(application, 5)["a"]
    e2e_s, own_s = entry.metrics.e2e["get"].total / 5, entry.metrics.own.total / 5
    assert e2e_s > 0.02
    assert own_s < e2e_s / 2


def test_a_store_that_is_not_traced_counts_as_the_caller_s_own_latency() -> None:
    application = chain(stores={"s": {"operations": {"S": 40.0}, "traced": False}})
    entry = ask_often(application, 5)["a"]
    assert entry.metrics.own.total / 5 > 0.02


@pytest.mark.parametrize(("client_spans", "is_own"), [(True, False), (False, True)])
def test_the_way_to_a_callee_is_the_caller_s_own_latency_only_without_client_spans(
    client_spans: bool, is_own: bool
) -> None:
    async def main() -> float:
        async with running(chain(client_spans=client_spans)) as services:

            async def far_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await asyncio.sleep(0.05)
                await services["c"].serve(reader, writer)

            server = await asyncio.start_server(far_away, "127.0.0.1", 0)
            services["a"].addresses["c"] = ("127.0.0.1", server.sockets[0].getsockname()[1])
            await ask(services["a"], "/call/get/0")
            server.close()
            return services["a"].metrics.own.total

    assert (asyncio.run(main()) > 0.04) == is_own


def test_only_the_entry_measures_e2e_latency() -> None:
    services = ask_often(chain(), 2)
    assert samples(services["a"])["imbres_e2e_latency_seconds_count", (("request_class", "get"),)] == 2
    assert not [key for key in samples(services["b"]) if key[0].startswith("imbres_e2e")]


def test_metrics_have_the_names_and_labels_of_the_contract() -> None:
    shown = samples(ask_often(chain(), 3)["a"])
    assert shown["imbres_own_latency_seconds_count", (("microservice", "a"),)] == 3
    labels = (("code", "200"), ("microservice", "a"), ("operation", "A"))
    assert shown["imbres_requests_total", labels] == 3
    assert shown["imbres_e2e_failures_total", (("request_class", "get"),)] == 0


def test_a_failed_call_fails_the_request_and_is_counted() -> None:
    async def main() -> tuple[int, Microservice]:
        async with running(chain()) as services:
            services["a"].addresses["c"] = ("127.0.0.1", 9)
            code, _ = await ask(services["a"], "/call/get/0")
            return code, services["a"]

    code, entry = asyncio.run(main())
    assert code == 503
    assert +served(entry) == {503: 1}
    assert entry.metrics.failures == {"get": 1}
    assert entry.metrics.e2e["get"].lines("x", "")[-1].endswith(" 0")


def test_a_request_that_misses_its_deadline_is_a_failure() -> None:
    application = chain(stores={"s": {"operations": {"S": 500.0}}})
    application["request_classes"]["get"]["deadline_ms"] = 20
    began = time.monotonic()
    entry = ask_often(application, 1)["a"]
    assert +served(entry) == {504: 1}
    assert time.monotonic() - began < 0.4


def test_a_full_accept_queue_rejects() -> None:
    application = chain(stores={"s": {"operations": {"S": 50.0}}})
    application["microservices"]["a"] |= {"workers": 1, "accept_queue": 2}

    async def main() -> Counter[int]:
        async with running(application) as services:
            await asyncio.gather(*(ask(services["a"], "/call/get/0") for _ in range(6)))
            return served(services["a"])

    assert asyncio.run(main()) == {200: 3, 503: 3}


@pytest.mark.parametrize("path", ["/call/get/9", "/call/nothing/0", "/call/get/1", "/", "/call/get/x"])
def test_calls_that_are_not_this_microservice_s_are_not_found(path: str) -> None:
    async def main() -> int:
        async with running(chain()) as services:
            code, _ = await ask(services["a"], path)
            return code

    assert asyncio.run(main()) == 404


@pytest.mark.parametrize(("keep_alive", "expected"), [("0", 10), ("1", 1)])
def test_each_call_opens_its_own_connection_unless_told_otherwise(keep_alive: str, expected: int) -> None:
    async def main() -> int:
        async with running(chain(), KEEP_ALIVE=keep_alive) as services:
            opened = 0
            serve = services["b"].serve

            async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal opened
                opened += 1
                await serve(reader, writer)

            server = await asyncio.start_server(counted, "127.0.0.1", 0)
            services["a"].addresses["b"] = ("127.0.0.1", server.sockets[0].getsockname()[1])
            for _ in range(10):
                await ask(services["a"], "/call/get/0")
            server.close()
            return opened

    assert asyncio.run(main()) == expected


def test_a_kept_connection_that_has_ended_is_no_failure() -> None:
    async def main() -> Counter[int]:
        async with running(chain(), KEEP_ALIVE="1") as services:
            await ask(services["a"], "/call/get/0")
            for pool in services["a"].idle.values():
                for _, writer in pool:
                    writer.close()
            await ask(services["a"], "/call/get/0")
            return served(services["a"])

    assert asyncio.run(main()) == {200: 2}


def test_spans_form_the_tree_with_a_client_span_for_each_call() -> None:
    spans: dict[str, dict[str, Any]] = {}
    for service in ask_often(chain(), 1, OTLP_URL="http://127.0.0.1:9", TRACE_SAMPLING="1").values():
        spans |= {span["name"]: span for span in service.spans._waiting}
    assert set(spans) == {"A", "B", "C", "b/B", "c/C", "s/S"}
    assert len({span["traceId"] for span in spans.values()}) == 1
    assert "parentSpanId" not in spans["A"]
    parents = {"b/B": "A", "c/C": "A", "s/S": "A", "B": "b/B", "C": "c/C"}
    assert {child: spans[child]["parentSpanId"] for child in parents} == {
        child: spans[parent]["spanId"] for child, parent in parents.items()
    }
    assert {name: spans[name]["kind"] for name in ("A", "B", "b/B")} == {"A": 2, "B": 2, "b/B": 3}
    for child, parent in parents.items():
        assert int(spans[parent]["startTimeUnixNano"]) <= int(spans[child]["startTimeUnixNano"])


def test_traces_are_sampled_whole_or_not_at_all() -> None:
    services = ask_often(chain(), 40, OTLP_URL="http://127.0.0.1:9", TRACE_SAMPLING="0.5")
    spans = Counter(span["traceId"] for service in services.values() for span in service.spans._waiting)
    assert set(spans.values()) == {6}
    assert 5 < len(spans) < 35


def test_spans_that_cannot_be_sent_are_counted_as_lost() -> None:
    async def main() -> int:
        async with running(chain(), OTLP_URL="http://127.0.0.1:9", TRACE_SAMPLING="1") as services:
            await ask(services["a"], "/call/get/0")
            await services["a"].spans.send()
            return services["a"].metrics.lost_spans

    assert asyncio.run(main()) == 4


def test_burning_uses_the_cpu_time_that_was_asked_for() -> None:
    async def main() -> float:
        async with running(chain()) as services:
            service, found = services["a"], []
            for _ in range(8):
                await service.calibrate(service.addresses["a"][1])
                began = time.thread_time()
                await service.burn(20.0)
                found.append(1000.0 * (time.thread_time() - began))
            return closest(found, 20.0)

    assert asyncio.run(main()) == pytest.approx(20.0, rel=0.25)


def closest(found: list[float], expected: float) -> float:
    """Of several tries: a virtual machine's speed changes between calibration and use."""
    return min(found, key=lambda value: abs(value - expected))


def test_bursts_take_turns() -> None:
    async def main() -> list[str]:
        ended = []

        async def burn(service: Microservice, name: str, cpu_ms: float) -> None:
            await service.burn(cpu_ms)
            ended.append(name)

        async with running(chain()) as services:
            await asyncio.gather(burn(services["a"], "long", 30.0), burn(services["a"], "short", 3.0))
        return ended

    assert asyncio.run(main()) == ["short", "long"]


def test_what_http_costs_is_guessed_at_start_and_then_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> tuple[float, float]:
        async with running(chain()) as services:
            service = services["a"]
            await service.calibrate(service.addresses["a"][1])
            guess_ms = service.message_ms
            learning = asyncio.create_task(service.learn())
            for _ in range(30):
                await ask(service, "/call/get/0")
            await asyncio.sleep(0.3)
            learning.cancel()
            assert len(service.costs_ms) >= 1
            return guess_ms, service.message_ms

    monkeypatch.setattr(microservice, "LEARN_EVERY_S", 0.1)
    guess_ms, learnt_ms = asyncio.run(main())
    assert 0.01 < guess_ms < 5.0
    assert 0.01 < learnt_ms < 5.0


def test_the_mean_cost_of_a_call_is_the_demand_of_the_file() -> None:
    application = chain()
    application["microservices"]["a"]["operations"]["A"] = {"cpu_ms": 6.0, "demand_shape": 1000.0}

    async def main() -> float:
        async with running(application) as services:
            service, found = services["a"], []
            for _ in range(8):
                await service.calibrate(service.addresses["a"][1])
                service.message_ms = 1.0
                before_s = service.burnt_s
                for _ in range(10):
                    await ask(service, "/call/get/0")
                found.append(1000.0 * (service.burnt_s - before_s) / 10)
            return closest(found, 3.0)

    # Three messages: the request itself and two calls; the rest is burnt.
    assert asyncio.run(main()) == pytest.approx(3.0, rel=0.25)


def test_a_draining_pod_still_answers_but_keeps_no_connection() -> None:
    async def main() -> tuple[int, dict[str, str]]:
        async with running(chain()) as services:
            services["c"].draining = True
            reader, writer = await asyncio.open_connection(*services["c"].addresses["c"])
            answer = await exchange(reader, writer, "POST", "/call/get/3", "localhost", {})
            writer.close()
            return answer

    code, headers = asyncio.run(main())
    assert code == 200
    assert headers["connection"] == "close"


def test_buckets_give_a_p95_within_ten_percent() -> None:
    assert BUCKETS_S[0] <= 0.0005
    assert BUCKETS_S[-1] >= 10.0
    assert max(high / low for low, high in pairwise(BUCKETS_S)) < 1.1501


def test_a_histogram_counts_cumulatively_and_loses_nothing() -> None:
    histogram = Histogram()
    for value in (0.0001, 0.02, 0.02, 100.0):
        histogram.add(value)
    lines = histogram.lines("x", 'l="1"')
    counts = [int(line.rpartition(" ")[2]) for line in lines if "_bucket" in line]
    assert counts == sorted(counts)
    assert (counts[0], counts[-2], counts[-1]) == (1, 3, 4)
    assert lines[-2:] == ['x_sum{l="1"} 100.0401', 'x_count{l="1"} 4']


def test_overlapping_children_count_once() -> None:
    assert union([]) == 0.0
    assert union([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0), (5.2, 5.4)]) == pytest.approx(4.0)


def test_the_caller_s_span_travels_in_the_w3c_header() -> None:
    trace = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)
    assert trace.header() == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert parse_traceparent(trace.header()) == trace
    assert parse_traceparent(None) is None
    assert parse_traceparent("nonsense") is None


def test_calibration_is_steady() -> None:
    first, second = loops_per_ms(), loops_per_ms()
    assert first == pytest.approx(second, rel=0.4)
