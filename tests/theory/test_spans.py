"""Traces: spans form the call tree, children lie inside their parents, own latency is what the tree leaves."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imbres_gym.application import Application, Store
from imbres_gym.cluster import make_cluster
from theory.builders import application, call, microservice, neutral, scenario

CONSTANT = neutral(demand_shape=1e8, store_shape=1e8)


ENGINES = pytest.mark.parametrize("engine", ["events", "fluid"])


def traced(app: Application, rps: float, seconds: float, **changes: Any) -> NDArray[np.void]:
    """Spans of the requests of an episode."""
    cluster = make_cluster(scenario(app, rps, **{"trace_sampling": 1.0, **changes}))
    first = cluster.reset(51)
    return np.concatenate([first.spans, cluster.advance(seconds).spans])


def whole_requests(spans: NDArray[np.void]) -> dict[int, list[np.void]]:
    """Spans of each request whose root has ended; a root ends last."""
    by_request: dict[int, list[np.void]] = defaultdict(list)
    for span in spans:
        by_request[int(span["request"])].append(span)
    return {r: members for r, members in by_request.items() if any(s["parent"] == -1 for s in members)}


def own_by_hand(span: np.void, children: list[np.void]) -> float:
    """Duration less the union of the children [ms]: right for server spans whose stages do not overlap."""
    covered, reached = 0.0, -np.inf
    for child in sorted(children, key=lambda c: float(c["start_s"])):
        start, end = float(child["start_s"]), float(child["end_s"])
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return (float(span["end_s"] - span["start_s"]) - covered) * 1e3


@ENGINES
def test_spans_are_a_tree_in_time(engine: str) -> None:
    """Every request has its whole tree, children lie inside their parents, and own latency is the time in no child."""
    app = application(
        {name: microservice(2.0, 4.0) for name in ("a", "b", "c")},
        call("a", [call("b", [call("c"), call("c")]), call("c")], [call("b", [call("c"), call("c")])]),
    )
    spans = traced(app, 60.0, 30.0, engine=engine)
    assert len(np.unique(spans["span"])) == len(spans)
    requests = whole_requests(spans)
    assert len(requests) > 1500
    for members in requests.values():
        by_id = {int(s["span"]): s for s in members}
        children: dict[int, list[np.void]] = defaultdict(list)
        for span in members:
            children[int(span["parent"])].append(span)
        assert sorted(int(s["microservice"]) for s in members) == [0, 1, 1, 2, 2, 2, 2, 2]
        assert len(children[-1]) == 1 and children[-1][0]["microservice"] == 0
        for span in members:
            if span["parent"] != -1:
                parent = by_id[int(span["parent"])]
                assert parent["start_s"] <= span["start_s"] <= span["end_s"] <= parent["end_s"]
            assert span["own_ms"] == pytest.approx(own_by_hand(span, children[int(span["span"])]), abs=1e-4)


@ENGINES
@pytest.mark.parametrize(
    ("client_spans", "traced_store", "own_of_a"),
    [
        # Bursts of A: 3 x 1 ms. B: 4 ms of CPU. Store: 7 ms. B, twice in a row, runs beside the store.
        (True, True, 3.0),
        (False, True, 3.0),
        (True, False, 3.0 + 20.0),
        (False, False, 3.0 + 20.0),
    ],
)
def test_own_latency_of_a_tree_worked_by_hand(
    engine: str, client_spans: bool, traced_store: bool, own_of_a: float
) -> None:
    """A: burst, [B x 2 | store 7 ms], burst, [store 20 ms], burst; a store that is not traced counts as A's own."""
    app = application(
        {"a": microservice(3.0, 64.0), "b": microservice(4.0, 64.0)},
        call("a", [call("b", repeat=2), call("short")], [call("long")]),
        stores={
            "short": Store(operations={"op": 7.0}),
            "long": Store(operations={"op": 20.0}, traced=traced_store),
        },
        client_spans=client_spans,
    )
    spans = traced(app, 20.0, 60.0, effects=CONSTANT, engine=engine)
    a, b = (spans[spans["microservice"] == m] for m in (0, 1))
    np.testing.assert_allclose(b["own_ms"], 4.0, atol=0.01)
    np.testing.assert_allclose(a["own_ms"], own_of_a, atol=0.02)
    np.testing.assert_allclose((a["end_s"] - a["start_s"]) * 1e3, 3.0 + 8.0 + 20.0, atol=0.02)


@ENGINES
def test_message_time_is_own_latency_without_client_spans(engine: str) -> None:
    """The hop to a child and back belongs to the call if callers record it, else to the caller's own latency."""

    def own(client_spans: bool) -> tuple[float, float]:
        app = application(
            {"a": microservice(2.0, 64.0), "b": microservice(4.0, 64.0)},
            call("a", [call("b")]),
            client_spans=client_spans,
            hop_ms=6.0,
        )
        spans = traced(app, 100.0, 200.0, effects=CONSTANT, engine=engine)
        roots = spans[spans["microservice"] == 0]
        return float(roots["own_ms"].mean()), float(np.mean(roots["end_s"] - roots["start_s"]) * 1e3)

    np.testing.assert_allclose(own(True), [2.0, 12.0], rtol=0.02)
    np.testing.assert_allclose(own(False), [8.0, 12.0], rtol=0.02)


@ENGINES
def test_sampling_traces_whole_requests(engine: str) -> None:
    """A share of the requests is traced, each with all its spans."""
    app = application({"a": microservice(1.0, 8.0), "b": microservice(1.0, 8.0)}, call("a", [call("b", repeat=2)]))
    spans = traced(app, 200.0, 95.0, trace_sampling=0.1, engine=engine)
    requests = whole_requests(spans)
    assert len(requests) == pytest.approx(2000, abs=4.0 * 2000**0.5)
    assert {len(members) for members in requests.values()} == {3}
