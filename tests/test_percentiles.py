from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imbres_gym.latency_window import Window, clear, grown, new_window, percentiles_since, remember
from imbres_gym.measured import new_measured, write
from imbres_gym.percentiles import FAILED_MS, on_one_scale, summarise, tail_latencies, tail_latency
from imbres_gym.scenario import load_scenario
from imbres_gym.sim.events import EventCluster
from imbres_gym.telemetry import ClusterInfo, Telemetry

LATENCIES = st.lists(st.floats(0.0, 20_000.0).map(lambda x: round(x, 1)), max_size=30)


@given(st.lists(LATENCIES, min_size=1, max_size=5), st.integers(0, 5), st.floats(0.0, 100.0), st.booleans())
def test_they_are_those_of_numpy_whether_the_parts_are_sorted_or_not(
    parts: list[list[float]], failed: int, percentile: float, ordered: bool
) -> None:
    arrays: list[NDArray[np.float64]] = [np.array(sorted(part) if ordered else part, np.float64) for part in parts]
    before = [array.copy() for array in arrays]
    everything = np.concatenate([*arrays, np.full(failed, FAILED_MS)])
    expected = float(np.percentile(everything, percentile)) if everything.size else 0.0
    assert tail_latencies(arrays, failed, (percentile,)) == [expected]
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)  # what the caller has is not sorted


@given(
    st.lists(st.tuples(LATENCIES, st.integers(1, 4)), min_size=1, max_size=5), st.integers(0, 5), st.floats(0.0, 100.0)
)
def test_a_latency_that_stands_for_several_requests_counts_as_often(
    parts: list[tuple[list[float], int]], failed: int, percentile: float
) -> None:
    arrays = [np.array(part, np.float64) for part, _ in parts]
    weights = [float(weight) for _, weight in parts]
    everything = np.concatenate([*(np.repeat(part, weight) for part, weight in parts), np.full(failed, FAILED_MS)])
    expected = float(np.percentile(everything, percentile)) if everything.size else 0.0
    assert tail_latencies(arrays, failed, (percentile,), weights) == [expected]


@given(LATENCIES.filter(bool))
def test_a_summary_is_what_numpy_says_of_sorted_values(latencies: list[float]) -> None:
    values, summary = np.sort(np.array(latencies, np.float64)), np.zeros(4)
    summarise(values, summary)
    assert summary[0] == pytest.approx(values.mean())
    np.testing.assert_array_equal(summary[1:], np.percentile(values, [50.0, 95.0, 99.0]))


def test_one_failure_of_two_requests_is_the_largest_latency() -> None:
    assert tail_latency(np.array([10.0]), 1, 100.0) == FAILED_MS
    assert tail_latency(np.array([10.0]), 1, 50.0) == pytest.approx((10.0 + FAILED_MS) / 2.0)


def with_interval(window: Window, telemetry: Telemetry, info: ClusterInfo) -> Window:
    """The window after one more interval; it has grown if there was no room."""
    measured = write(telemetry, new_measured(info))
    while not remember(window, measured):
        window = grown(window, int(measured.listed.max()))
    return window


def p95_ms(window: Window) -> list[float]:
    """Of each class."""
    values = np.zeros(window.values.shape[1])
    for c in range(len(values)):
        percentiles_since(window, -np.inf, c, np.array([0.95]), values[c : c + 1])
    return values.tolist()  # type: ignore[no-any-return]


def test_a_window_has_the_intervals_of_its_length_only() -> None:
    cluster = EventCluster(load_scenario("hotel-reservation/low-slack"))
    seen = [cluster.reset(1)] + [cluster.advance(5.0) for _ in range(5)]
    window = new_window(len(cluster.info.classes), 10.0)
    for _ in range(2):  # the second time after a reset
        for before, now in zip([None, *seen], seen, strict=False):
            few = replace(now, failed=now.failed + (now.time_s > 20.0))
            window = with_interval(window, few, cluster.info)
            inside = [now] if before is None else [before, now]
            for c, value in enumerate(p95_ms(window)):
                failed = sum(int(t.failed[c]) + (t.time_s > 20.0) for t in inside)
                parts = [t.latencies_ms[c] for t in inside]
                assert value == np.percentile(np.concatenate([*parts, np.full(failed, FAILED_MS)]), 95.0)
        clear(window)


def test_in_a_window_a_sample_counts_by_its_requests() -> None:
    cluster = EventCluster(load_scenario("hotel-reservation/low-slack"))
    seen, counts = cluster.reset(1), len(cluster.info.classes)
    none = np.zeros(counts, np.int64)
    window = new_window(counts, 10.0)
    # 900 requests of 1 ms, of which 100 are listed, 90 of 9 ms and 10 failed ones: 99 % are not above 9 ms.
    first = replace(seen, latencies_ms=(np.full(100, 1.0),) * counts, requests=none + 900, failed=none)
    window = with_interval(window, first, cluster.info)
    slow = (np.full(90, 9.0),) * counts
    later = replace(seen, time_s=seen.time_s + 5.0, latencies_ms=slow, requests=none + 100, failed=none + 10)
    window = with_interval(window, later, cluster.info)
    assert p95_ms(window) == [9.0] * counts
    window = with_interval(window, replace(later, time_s=seen.time_s + 10.0), cluster.info)
    assert p95_ms(window) == [FAILED_MS] * counts, "20 of 200, once the first interval is out"


@given(st.integers(400, 2000), st.integers(0, 400), st.integers(1, 40), st.sampled_from([50.0, 90.0, 99.0]))
def test_an_even_sample_has_the_percentile_of_all_requests(
    good: int, failed: int, thinning: int, percentile: float
) -> None:
    everyone = np.sort(np.random.default_rng(good).exponential(100.0, good * thinning))
    sample = everyone[thinning // 2 :: thinning]
    (listed,), beside = on_one_scale([sample], [everyone.size + failed * thinning], [failed * thinning])
    assert listed.size == sample.size and beside == failed
    # The two ranks differ by less than one place of the sample.
    ranks = np.sort(np.concatenate([sample, np.full(failed, FAILED_MS)]))
    rank = percentile / 100.0 * (ranks.size - 1)
    low, high = ranks[max(int(rank) - 2, 0)], ranks[min(int(rank) + 3, ranks.size - 1)]
    assert low <= tail_latency(everyone, failed * thinning, percentile) <= high


def test_parts_of_which_one_is_a_sample_count_by_their_requests() -> None:
    fast, slow = np.full(100, 1.0), np.full(100, 9.0)  # 900 and 100 requests
    parts, beside = on_one_scale([fast, slow], [900, 120], [0, 20])
    assert [part.size for part in parts] == [100, 11] and beside == 2
    assert tail_latencies(parts, beside, (50.0, 95.0)) == [1.0, 9.0]
    parts, _ = on_one_scale([fast, slow[:1]], [900, 1], [0, 0])
    assert [part.size for part in parts] == [100, 0], "one request among hundreds that stand for nine each"
    untouched, beside = on_one_scale([fast, slow], [100, 120], [0, 20])
    assert untouched[0] is fast and untouched[1] is slow and beside == 20
