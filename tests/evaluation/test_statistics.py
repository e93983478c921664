from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_tables import GROUPS, OTHERS, THRESHOLDS

from imbres_gym.evaluation.statistics import (
    Aggregate,
    interquartile_mean,
    mean_interval,
    performance_profile,
    pooled_mean,
    probability_of_improvement,
    stratified_bootstrap,
)

scores = st.lists(
    st.lists(st.integers(0, 8), min_size=1, max_size=6).map(lambda row: np.array(row, np.float64)),
    min_size=1,
    max_size=4,
)


def test_the_interval_is_students() -> None:
    # mean 3, standard deviation sqrt(2.5), t(0.975, 4) = 2.776445: half width 2.776445 * sqrt(2.5 / 5) = 1.963243.
    estimate = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert estimate.mean == 3.0
    assert estimate.low == pytest.approx(3.0 - 1.963243, abs=1e-6)
    assert estimate.high == pytest.approx(3.0 + 1.963243, abs=1e-6)


def test_it_covers_the_true_mean_19_times_out_of_20() -> None:
    samples = np.random.default_rng(0).normal(50.0, 5.0, (4000, 5))
    covered = [e.low <= 50.0 <= e.high for e in (mean_interval(row.tolist()) for row in samples)]
    # Four standard errors of a share of 0.95 over 4000 trials.
    assert np.mean(covered) == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 4000) ** 0.5)


def test_it_stays_inside_what_is_possible_and_around_the_mean() -> None:
    estimate = mean_interval([0.0, 0.0, 0.9], bounds=(0.0, 1.0))
    assert (estimate.low, estimate.mean, estimate.high) == (0.0, pytest.approx(0.3), 1.0)


def test_one_value_has_no_interval() -> None:
    estimate = mean_interval([7.0])
    assert estimate.low == estimate.mean == estimate.high == 7.0


def test_no_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def test_the_interquartile_mean_leaves_out_a_quarter_on_each_side() -> None:
    # 8 values: 2 on each side go, (3 + 4 + 5 + 6) / 4 stays. 5 values: 1 on each side. 3 values: none.
    assert interquartile_mean(np.array([8.0, 900.0, 3.0, 1.0, 5.0, 4.0, 6.0, -50.0])) == 4.5
    assert interquartile_mean(np.array([[1.0, 2.0, 3.0, 4.0, 90.0], [5.0, 5.0, 0.0, 5.0, 5.0]])).tolist() == [3.0, 5.0]
    assert interquartile_mean(np.array([1.0, 2.0, 9.0])) == 4.0
    assert interquartile_mean(np.array([7.0])) == 7.0


def test_the_numbers_are_those_of_rliable() -> None:
    """Its output for the same tables (rliable 1.2.0, 50 000 and 20 000 repetitions); see `test_rliable.py`."""
    iqm = stratified_bootstrap(GROUPS)
    # The middle ten of the twenty values: 0.79 + 0.82 + ... + 1.01 = 9.31.
    assert (iqm.value, iqm.low, iqm.high) == pytest.approx((0.931, 0.907, 0.963), abs=0.0015)
    # Wins of 25 pairs each: 5 + 4 + 5 + 2 + 5 = 21 in the first scenario, then 7, 20 and 12: 60 of 100.
    improvement = probability_of_improvement(GROUPS, OTHERS)
    expected = (0.6, 0.44, 0.755)
    assert (improvement.value, improvement.low, improvement.high) == pytest.approx(expected, abs=0.01)
    profile = performance_profile(GROUPS, THRESHOLDS)
    assert profile.share == pytest.approx([0.0, 0.1, 0.3, 0.45, 0.7, 0.9, 0.95, 1.0])
    assert profile.low == pytest.approx([0.0, 0.0, 0.25, 0.35, 0.55, 0.75, 0.85, 1.0])
    assert profile.high == pytest.approx([0.0, 0.2, 0.4, 0.5, 0.85, 1.0, 1.0, 1.0])


def test_seeds_are_resampled_within_their_scenario() -> None:
    # Between scenarios there is a world of difference, within them none: nothing is uncertain.
    assert stratified_bootstrap([np.full(5, 1.0), np.full(5, 100.0)], pooled_mean) == Aggregate(50.5, 50.5, 50.5)


@given(scores)
def test_intervals_are_around_the_value_and_always_the_same(runs: list[np.ndarray]) -> None:
    for statistic in (interquartile_mean, pooled_mean):
        aggregate = stratified_bootstrap(runs, statistic, resamples=400)
        everything = np.concatenate(runs)
        assert everything.min() <= aggregate.low <= aggregate.high <= everything.max()
        assert aggregate == stratified_bootstrap(runs, statistic, resamples=400)
    middle = stratified_bootstrap(runs, pooled_mean, resamples=400)
    assert middle.low <= middle.value + 1e-12 and middle.value <= middle.high + 1e-12


@given(scores)
def test_improvement_over_each_other_adds_up_to_one(runs: list[np.ndarray]) -> None:
    others = [values[::-1] + index % 2 for index, values in enumerate(runs)]
    there, back = (probability_of_improvement(*pair, resamples=50) for pair in ((runs, others), (others, runs)))
    assert there.value + back.value == pytest.approx(1.0)
    assert probability_of_improvement(runs, runs, resamples=50).value == pytest.approx(0.5)
    assert 0.0 <= there.low <= there.high <= 1.0


@given(scores)
def test_a_profile_rises_from_nobody_to_everybody(runs: list[np.ndarray]) -> None:
    profile = performance_profile(runs, np.array([-1.0, 2.0, 5.0, 8.0]), resamples=50)
    for curve in (profile.low, profile.share, profile.high):
        assert np.all(np.diff(curve) >= -1e-12)
        assert (curve[0], curve[-1]) == (0.0, pytest.approx(1.0))


@pytest.mark.parametrize(("seeds", "statistic"), [(5, pooled_mean), (5, interquartile_mean), (2, pooled_mean)])
def test_the_bootstrap_covers_as_often_as_it_says(seeds: int, statistic: object) -> None:
    """Of the mean: 2 Phi(1.96 sqrt((n - 1) / n)) - 1, the theory of the module's docstring; of the IQM about as much.

    Runs are normal around scenario means that are symmetric about 0, so that 0 is the true value of both.
    """
    generator, trials = np.random.default_rng(1), 600
    centres = np.linspace(-1.0, 1.0, 16)[:, None]
    covered = 0
    for _ in range(trials):
        runs = list(centres + generator.normal(0.0, 1.0, (16, seeds)))
        aggregate = stratified_bootstrap(runs, statistic, resamples=400)  # type: ignore[arg-type]
        covered += aggregate.low <= 0.0 <= aggregate.high
    theory = math.erf(1.959964 * math.sqrt((seeds - 1) / seeds) / math.sqrt(2.0))
    # Four standard errors of the share, and the error of 400 repetitions and of an estimated variance.
    assert covered / trials == pytest.approx(theory, abs=4.0 * math.sqrt(theory * (1.0 - theory) / trials) + 0.015)


def test_aggregates_of_nothing_are_errors() -> None:
    for scores_of_nothing in ([], [np.zeros(3), np.zeros(0)]):
        with pytest.raises(ValueError, match="at least one"):
            stratified_bootstrap(scores_of_nothing)
    with pytest.raises(ValueError, match="2 scenarios against 1"):
        probability_of_improvement([np.zeros(1)] * 2, [np.zeros(1)])
