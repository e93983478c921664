"""Percentiles from histograms agree with those of the values that were counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbres_gym.live.histogram import Histogram, from_buckets, merged

EDGES_MS = np.geomspace(0.5, 2000.0, 60)


def counted(values_ms: np.ndarray) -> Histogram:
    counts = np.histogram(values_ms, bins=[0.0, *EDGES_MS, np.inf])[0]
    return Histogram(EDGES_MS, counts.astype(np.float64))


@given(st.lists(st.floats(0.6, 1900.0), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_quantile_is_inside_the_bucket_of_the_true_one(values: list[float], quantile: float) -> None:
    values_ms = np.sort(values)
    true = values_ms[max(0, int(np.ceil(quantile * len(values_ms))) - 1)]
    index = int(np.searchsorted(EDGES_MS, true, side="right"))
    low, high = [0.0, *EDGES_MS][index], EDGES_MS[index]
    assert low - 1e-9 <= counted(values_ms).quantile_ms(quantile) <= high + 1e-9


def test_percentiles_are_within_a_tenth_of_the_true_ones() -> None:
    values_ms = np.random.default_rng(1).lognormal(3.0, 0.6, 20_000)
    histogram = counted(values_ms)
    stand_ins = histogram.values_ms(1000)
    assert len(stand_ins) == 1000 and np.all(np.diff(stand_ins) >= 0.0)
    for percentile in (50, 95, 99):
        true = np.percentile(values_ms, percentile)
        assert histogram.quantile_ms(percentile / 100.0) == pytest.approx(true, rel=0.1)
        assert np.percentile(stand_ins, percentile) == pytest.approx(true, rel=0.1)
    assert histogram.above(50.0) == pytest.approx(np.mean(values_ms > 50.0), abs=0.01)


def test_what_is_above_every_edge_counts_as_the_highest_and_as_slow() -> None:
    histogram = Histogram(np.array([10.0, 20.0]), np.array([1.0, 0.0, 3.0]))
    assert histogram.quantile_ms(0.95) == 20.0
    assert histogram.above(1000.0) == 0.75
    assert histogram.values_ms(4).max() == 20.0


def test_nothing_observed_has_no_latency() -> None:
    histogram = Histogram(np.array([10.0]), np.zeros(2))
    assert (histogram.quantile_ms(0.5), histogram.above(1.0), len(histogram.values_ms(3))) == (0.0, 0.0, 0)


@pytest.mark.parametrize(
    "buckets",
    [
        {},
        {0.1: 1.0},
        {float("inf"): 1.0},
        {0.1: 2.0, float("inf"): 1.0},
        {0.1: -1.0, float("inf"): 1.0},
        {-0.1: 0.0, 0.1: 1.0, float("inf"): 1.0},
    ],
)
def test_contradictory_buckets_are_no_histogram(buckets: dict[float, float]) -> None:
    assert from_buckets(buckets) is None


def test_a_fall_by_rounding_is_none() -> None:
    histogram = from_buckets({0.1: 1.0, 0.2: 1.0 - 1e-12, float("inf"): 1.0})
    assert histogram is not None
    assert histogram.rate.tolist() == [1.0, 0.0, pytest.approx(0.0, abs=1e-11)]


def test_histograms_merge_only_where_their_edges_agree() -> None:
    one = Histogram(np.array([10.0]), np.array([1.0, 2.0]))
    both = merged([one, one])
    assert both is not None and both.rate.tolist() == [2.0, 4.0]
    assert merged([one, Histogram(np.array([11.0]), np.array([1.0, 2.0]))]) is None
    assert merged([]) is None
