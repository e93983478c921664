"""Critical paths and their features: golden examples by hand, the identity of times, windows over intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imbres_gym.cluster import make_cluster
from imbres_gym.critical_path import (
    CI,
    RI,
    SHARE,
    CriticalPaths,
    PathWindow,
    critical_path_spans,
    critical_paths,
    path_features,
)
from imbres_gym.observer import Observer
from imbres_gym.scenario import load_scenario
from imbres_gym.telemetry import SPAN


def trace(*calls: tuple[int, int, int, float, float], request: int = 0) -> NDArray[np.void]:
    """Spans of one request: (number, parent, microservice, start, end) [ms], without own latencies."""
    rows = [(request, n, p, m, 0, 0, s * 1e-3, e * 1e-3, 0.0) for n, p, m, s, e in calls]
    return np.array(rows, SPAN)


def path(spans: NDArray[np.void]) -> list[int]:
    return sorted(spans["span"][critical_path_spans(spans)].tolist())


def test_the_child_that_returns_last() -> None:
    # 1 calls 2 and 3 in parallel; 3 returns later, and the call that it makes, 4, belongs to the path as well.
    spans = trace((1, -1, 0, 0, 10), (2, 1, 1, 1, 5), (3, 1, 2, 1, 8), (4, 3, 3, 2, 7))
    assert path(spans) == [1, 3, 4]


def test_children_one_after_another() -> None:
    # 2 returned before 3 began, and 3 before 4: all were waited for.
    assert path(trace((1, -1, 0, 0, 10), (2, 1, 1, 1, 3), (3, 1, 2, 3, 5), (4, 1, 3, 6, 9))) == [1, 2, 3, 4]


def test_stages_of_parallel_calls() -> None:
    # Stage one is 2 (1-4) beside 3 (1-6), stage two 4 (7-8) beside 5 (7-9): each stage as long as its slower call.
    spans = trace((1, -1, 0, 0, 10), (2, 1, 1, 1, 4), (3, 1, 2, 1, 6), (4, 1, 3, 7, 8), (5, 1, 4, 7, 9))
    assert path(spans) == [1, 3, 5]


def test_repeated_calls_beside_a_longer_one() -> None:
    # 2, 3, 4 are one call made three times beside 5: in the first case 5 returns last, in the second it is covered.
    repeats = ((2, 1, 1, 1, 2), (3, 1, 1, 2, 3), (4, 1, 1, 3, 5))
    assert path(trace((1, -1, 0, 0, 10), *repeats, (5, 1, 2, 1, 6))) == [1, 5]
    assert path(trace((1, -1, 0, 0, 10), *repeats, (5, 1, 2, 1, 4))) == [1, 2, 3, 4]


def test_background_calls_are_not_waited_for() -> None:
    assert path(trace((1, -1, 0, 0, 10), (2, 1, 1, 1, 3), (3, 1, 2, 4, 11))) == [1, 2]


def test_ties() -> None:
    # Both return at 5: the one that began earlier covers more. If they began together, the lower number.
    assert path(trace((1, -1, 0, 0, 10), (2, 1, 1, 2, 5), (3, 1, 2, 1, 5))) == [1, 3]
    assert path(trace((1, -1, 0, 0, 10), (3, 1, 1, 1, 5), (2, 1, 2, 1, 5))) == [1, 2]


def test_the_order_of_spans_and_incomplete_traces_do_not_matter() -> None:
    spans = np.concatenate(
        [
            trace((7, -1, 0, 0, 4), (9, 7, 1, 1, 3), request=1),
            trace((2, 1, 1, 1, 3), request=0),  # its root has not ended
        ]
    )
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        shuffled = spans[order]
        assert path(shuffled) == [7, 9]
        assert critical_paths(shuffled, 2).total_ms.tolist() == pytest.approx([4.0])
    assert path(spans[:0]) == []


def test_latencies_on_the_path_are_summed_per_microservice() -> None:
    spans = trace((1, -1, 0, 0, 10), (2, 1, 1, 1, 3), (3, 1, 1, 3, 6), (4, 1, 2, 1, 2))
    spans["own_ms"] = [4.0, 1.5, 2.5, 0.5]
    paths = critical_paths(spans, 3)
    assert paths.microservice.tolist() == [0, 1]
    assert paths.own_ms.tolist() == [4.0, 4.0]


@st.composite
def call_trees(draw: st.DrawFn) -> NDArray[np.void]:
    """Random requests; children lie anywhere inside their parent, in whole milliseconds so that ties are common."""
    calls = [(0, -1, 0, 0, draw(st.integers(0, 12)))]
    for number in range(1, draw(st.integers(1, 12))):
        parent = draw(st.integers(0, number - 1))
        low, high = calls[parent][3], calls[parent][4]
        start = draw(st.integers(low, high))
        calls.append((number, parent, draw(st.integers(0, 3)), start, draw(st.integers(start, high))))
    return trace(*calls)


def _union_ms(intervals: Sequence[tuple[float, float]]) -> float:
    total, reached = 0.0, -np.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


@settings(max_examples=200, deadline=None)
@given(call_trees())
def test_own_times_and_gaps_add_up_to_the_request(spans: NDArray[np.void]) -> None:
    on = critical_path_spans(spans)
    exclusive = 0.0
    for span in spans[on]:
        children = spans[spans["parent"] == span["span"]]
        followed = spans[on & (spans["parent"] == span["span"])]
        duration = 1000.0 * (span["end_s"] - span["start_s"])
        mine = duration - 1000.0 * float((followed["end_s"] - followed["start_s"]).sum())
        # What no call covers is own latency: it is never more than what the path leaves to the span.
        own = duration - 1000.0 * _union_ms([(c["start_s"], c["end_s"]) for c in children])
        assert mine >= own - 1e-9
        # The calls that are followed do not overlap.
        assert 1000.0 * _union_ms([(c["start_s"], c["end_s"]) for c in followed]) == pytest.approx(duration - mine)
        exclusive += mine
    root = spans[spans["parent"] == -1][0]
    assert exclusive == pytest.approx(1000.0 * (root["end_s"] - root["start_s"]), abs=1e-9)


def made_up(own: NDArray[np.float64], total: NDArray[np.float64], classes: NDArray[np.int64]) -> CriticalPaths:
    request, microservice = np.nonzero(own)
    return CriticalPaths(own.shape[1], classes, total, request, microservice, own[request, microservice])


def test_features_by_hand() -> None:
    # 0 is the total less a constant; 1 runs against it; 2 never varies; 3 is on a third of the paths: too few to say.
    rising = np.arange(1.0, 61.0)
    own = np.stack([rising, 100.0 - rising, np.full(60, 5.0), np.where(rising <= 20, 1.0, 0.0)], axis=1)
    features = path_features(made_up(own, rising + 7.0, np.zeros(60, np.int64)))
    assert features[:, SHARE].tolist() == pytest.approx([1.0, 1.0, 1.0, 1 / 3])
    assert features[:, RI].tolist() == pytest.approx([1.0, -1.0, 0.0, 0.0])
    # Of 1..60 the median is 30.5 and the 99th percentile 1 + 0.99 * 59 = 59.41; of 40..99 they are 69.5 and 98.41.
    assert features[:, CI].tolist() == pytest.approx([59.41 / 30.5, 98.41 / 69.5, 1.0, 0.0])


def test_classes_are_not_mixed() -> None:
    # The long class makes a long call, the short one a short call: across both, r would be nearly 1.
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1], 2000)
    own = np.where(classes == 0, 1.0, 100.0)[:, None] + rng.uniform(0.0, 0.1, (4000, 1))
    total = own[:, 0] * 2.0 + rng.uniform(0.0, 10.0, 4000)
    assert np.corrcoef(own[:, 0], total)[0, 1] > 0.99
    assert abs(path_features(made_up(own, total, classes))[0, RI]) < 0.1


def test_a_trace_that_ends_in_a_later_interval_is_complete() -> None:
    spans = trace((1, -1, 0, 0, 9_000), (2, 1, 1, 1_000, 3_000))
    spans["own_ms"] = [7_000.0, 2_000.0]
    window = PathWindow(2, window_s=60.0)
    window.add(spans[1:], 5.0)
    assert not window.features().any()
    window.add(spans[:1], 10.0)
    assert window.features()[:, SHARE].tolist() == [1.0, 1.0]
    window.add(spans[:0], 65.0)
    assert window.features()[:, SHARE].tolist() == [1.0, 1.0]
    window.add(spans[:0], 70.0)  # it ended in the interval 5-10 s, which is over 60 s ago
    assert not window.features().any()


def test_features_of_several_intervals_are_those_of_all_their_requests() -> None:
    rng = np.random.default_rng(0)
    ends = rng.integers(10, 1_000, 90)
    requests = [
        trace((3 * r, -1, 0, 0, int(end)), (3 * r + 1, 3 * r, 1, 1, int(end) // 2), request=r)
        for r, end in enumerate(ends)
    ]
    for spans in requests:
        spans["own_ms"] = rng.uniform(1.0, 9.0, 2) + spans["end_s"] * 10.0
    window = PathWindow(2, window_s=60.0)
    for interval in range(3):
        window.add(np.concatenate(requests[30 * interval : 30 * interval + 30]), 5.0 * (interval + 1))
    assert window.features().tolist() == path_features(critical_paths(np.concatenate(requests), 2)).tolist()


def test_spans_without_a_root_are_forgotten_after_the_window() -> None:
    window = PathWindow(2, window_s=60.0)
    window.add(trace((2, 1, 1, 1_000, 3_000)), 5.0)
    window.add(trace(), 65.0)
    window.add(trace((1, -1, 0, 0, 66_000)), 70.0)
    assert window.features()[:, SHARE].tolist() == [1.0, 0.0]


def test_observed_in_the_simulator() -> None:
    scenario = load_scenario("hotel-reservation/high-strict", trace_sampling=0.2, duration=60.0)
    cluster = make_cluster(scenario)
    observer = Observer(cluster.info)
    observer.observe(cluster.reset(2000))
    telemetry = cluster.advance(5.0)
    features = observer.observe(telemetry)["critical_path"]
    assert features.dtype == np.float32
    share = dict(zip(cluster.info.microservices, features[:, SHARE].tolist(), strict=True))
    # The mix: 60 % search for hotels, 39 % ask for recommendations; every request enters by the front end.
    assert share["frontend"] == 1.0
    assert share["search"] == pytest.approx(0.60, abs=0.05)
    assert share["recommendation"] == pytest.approx(0.39, abs=0.05)
    assert np.all(np.abs(features[:, RI]) <= 1.0) and features[0, RI] > 0.3
    assert features[0, CI] > 1.0
    paths = critical_paths(telemetry.spans, len(share))
    assert np.all(np.bincount(paths.request, paths.own_ms) <= paths.total_ms + 1e-6)


def test_no_spans_no_features() -> None:
    scenario = load_scenario("hotel-reservation/high-strict", duration=60.0)
    cluster = make_cluster(scenario)
    assert not Observer(cluster.info).observe(cluster.reset(2000))["critical_path"].any()
