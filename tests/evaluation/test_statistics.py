from __future__ import annotations

import numpy as np
import pytest

from imbres_gym.evaluation.statistics import mean_interval


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
