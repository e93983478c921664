"""Traces in both of Jaeger's forms: what is read, what own latency is, and what a broken answer does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_telemetry import FakeJaeger
from fake_traces import SECOND, SHOP, jaeger, otlp
from live_bed import Bed

from imbres_gym.critical_path import critical_path_spans
from imbres_gym.live.config import Jaeger
from imbres_gym.live.http import Unreachable
from imbres_gym.live.jaeger import JaegerClient
from imbres_gym.live.trace_spans import SpanLog, traced_latencies
from imbres_gym.live.traces import RawSpan, parse_traces
from imbres_gym.live.visits import find_visits


def test_both_forms_say_the_same() -> None:
    first, second = parse_traces(otlp()), parse_traces(jaeger())
    assert first.dropped == second.dropped == 0
    assert len(first.spans) == len(SHOP)
    for one, other in zip(first.spans, second.spans, strict=True):
        assert (one.span, one.parent, one.service, one.kind, one.pod) == (
            other.span,
            other.parent,
            other.service,
            other.kind,
            other.pod,
        )
        assert one.start_s == pytest.approx(other.start_s) and one.end_s == pytest.approx(other.end_s)


@pytest.mark.parametrize("answer", [otlp(), jaeger()], ids=["otlp", "jaeger"])
def test_own_latency_is_the_span_without_its_children(answer: Any) -> None:
    own = {visit.span.span: visit.own_ms for visit in find_visits(parse_traces(answer).spans)}
    # front waits from 10 to 70: overlapping calls count once. cart's internal span is its own work, but for the read.
    assert own == pytest.approx({"a": 40.0, "c": 20.0, "e": 26.0}, abs=1e-3)


def test_children_count_only_inside_their_parent() -> None:
    rows = [("a", None, "front", "ask", "server", "f", 10, 50), ("b", "a", "front", "call", "client", "f", 0, 90)]
    (visit,) = find_visits(parse_traces(otlp(rows=rows)).spans)
    assert visit.own_ms == 0.0


def test_spans_of_unknown_kind_serve_where_the_service_changes() -> None:
    spans = [
        RawSpan("t", "a", None, "web", "x", "", "", 0.0, 1.0),
        RawSpan("t", "b", "a", "web", "x", "", "", 0.1, 0.9),
        RawSpan("t", "c", "b", "store", "x", "", "", 0.2, 0.8),
    ]
    assert [visit.span.span for visit in find_visits(spans)] == ["a", "c"]


def test_a_circle_of_parents_is_survived() -> None:
    spans = [
        RawSpan("t", "a", "b", "web", "x", "server", "", 0.0, 1.0),
        RawSpan("t", "b", "a", "cart", "x", "server", "", 0.0, 1.0),
    ]
    assert [visit.complete for visit in find_visits(spans)] == [False, False]


@pytest.mark.parametrize(
    ("answer", "spans", "dropped"),
    [
        ({"data": None, "errors": [{"code": 404}]}, 0, 0),
        ({"data": []}, 0, 0),
        ({"data": [{"spans": [{"traceID": "t", "spanID": "s"}], "processes": {}}]}, 0, 1),
        ({"data": [{"spans": [{"traceID": "t", "spanID": "s", "startTime": 1, "duration": -5}]}]}, 0, 1),
        ({"data": [{"spans": "none"}, 7]}, 0, 0),
        ({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "t", "spanId": "s", "kind": 2}]}]}]}, 0, 1),
        ({"result": {"resourceSpans": [{"resource": {}, "scopeSpans": None}]}}, 0, 0),
        ([{"traceID": "t", "spanID": "s", "startTime": 5, "duration": 2, "process": {"serviceName": "x"}}], 1, 0),
    ],
)
def test_what_cannot_be_read_is_left_out_and_counted(answer: Any, spans: int, dropped: int) -> None:
    traces = parse_traces(answer)
    assert (len(traces.spans), traces.dropped) == (spans, dropped)


@pytest.mark.parametrize("answer", [None, {}, "text", {"status": "ok"}])
def test_an_answer_of_another_kind_is_an_error(answer: Any) -> None:
    with pytest.raises(ValueError, match="neither"):
        parse_traces(answer)


def test_latencies_go_to_the_pods_that_are_named() -> None:
    found = traced_latencies(parse_traces(otlp()).spans)
    assert {pod: latency.own_ms.tolist() for pod, latency in found.items()} == {
        "front-1": [pytest.approx(40.0)],
        "cart-1": [pytest.approx(20.0)],
        "stock-1": [pytest.approx(26.0)],
    }


def test_spans_become_rows_of_whole_traces_once(bed: Bed) -> None:
    log = SpanLog(bed.config().application)
    spans = parse_traces(otlp()).spans + parse_traces(otlp("t2")).spans
    rows, pods = log.add(spans, SECOND - 1.0)
    assert rows["microservice"].tolist() == [0, 1, 2] * 2
    assert rows["request"].tolist() == [0, 0, 0, 1, 1, 1]
    assert rows["request_class"].tolist() == [0] * 6
    assert rows["start_s"][0] == pytest.approx(1.0)
    assert pods == ["front-1", "cart-1", "stock-1"] * 2
    assert len(np.unique(rows["span"])) == 6
    # front waited for stock last, and stock's call began before that of cart had ended.
    assert critical_path_spans(rows).tolist() == [True, False, True] * 2
    again, _ = log.add([*spans, *parse_traces(otlp("t3")).spans], SECOND - 1.0)
    assert again["request"].tolist() == [2, 2, 2]
    assert not set(again["span"]) & set(rows["span"])


def test_traces_that_begin_elsewhere_are_no_requests(bed: Bed) -> None:
    log = SpanLog(bed.config().application)
    rows, _ = log.add(parse_traces(otlp(rows=SHOP[1:])).spans, 0.0)
    assert len(rows) == 0


@pytest.fixture
def store() -> Any:
    store = FakeJaeger()
    yield store
    store.close()


@pytest.mark.parametrize("path", ["/api/v3/traces", "/api/traces"])
def test_a_server_may_speak_either_form(store: FakeJaeger, path: str) -> None:
    store.answers[path] = (200, otlp() if "v3" in path else jaeger())
    client = JaegerClient(Jaeger(url=store.url, window_s=10.0, delay_s=2.0, limit=50))
    for _ in range(2):
        assert len(client.recent(["front"], SECOND).spans) == len(SHOP)
    client.close()
    assert [asked for asked, _ in store.asked].count(path) == 2
    assert store.asked[-1][0] == path  # what does not exist is not asked for twice
    assert len(store.asked) == (2 if "v3" in path else 3)
    query = store.asked[-1][1]
    if "v3" in path:
        assert query["query.start_time_min"] == "2023-11-14T22:13:08.000000Z"
        assert query["query.start_time_max"] == "2023-11-14T22:13:18.000000Z"
        assert (query["query.service_name"], query["query.num_traces"]) == ("front", "50")
    else:
        assert (query["start"], query["end"]) == (str((SECOND - 12) * 10**6), str((SECOND - 2) * 10**6))
        assert (query["service"], query["limit"]) == ("front", "50")


def test_no_traces_is_an_answer(store: FakeJaeger) -> None:
    store.answers["/api/v3/traces"] = (404, {"error": {"httpCode": 404, "message": "No traces found"}})
    client = JaegerClient(Jaeger(url=store.url))
    assert client.recent(["front"], SECOND).spans == ()
    client.close()
    assert len(store.asked) == 1


@pytest.mark.parametrize("answer", [(500, b"oops"), (404, b"not found"), (200, b"<html>"), (200, {"hello": 1})])
def test_no_answer_of_use_is_said(store: FakeJaeger, answer: tuple[int, Any]) -> None:
    store.answers = {"/api/v3/traces": answer, "/api/traces": answer}
    client = JaegerClient(Jaeger(url=store.url))
    with pytest.raises(Unreachable, match="Jaeger at http"):
        client.recent(["front"], SECOND)
    client.close()
