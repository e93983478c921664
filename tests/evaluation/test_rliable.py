"""Optional: our aggregates against rliable, the implementation of the authors of the method.

Needs `pip install rliable 'pandas<3'`, which the project does not install; `test_statistics.py` has the numbers that
came out.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from score_tables import GROUPS, OTHERS, THRESHOLDS

from imbres_gym.evaluation.statistics import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    rliable = pytest.importorskip("rliable.library")
    metrics = pytest.importorskip("rliable.metrics")

OURS, THEIRS = np.array(GROUPS).T, np.array(OTHERS).T
"""Runs x tasks, as rliable has them."""


def close(value: float, low: float, high: float) -> object:
    """Two bootstraps of thousands of repetitions differ by some per cent of the width of the interval."""
    return pytest.approx(value, abs=0.05 * (high - low))


def test_the_interquartile_mean_and_its_interval() -> None:
    points, intervals = rliable.get_interval_estimates({"a": OURS}, metrics.aggregate_iqm, reps=20_000)
    ours = stratified_bootstrap(GROUPS)
    assert float(interquartile_mean(np.concatenate(GROUPS))) == pytest.approx(float(points["a"]), rel=1e-12)
    assert ours.value == pytest.approx(float(points["a"]), rel=1e-12)
    low, high = (float(end) for end in intervals["a"].ravel())
    assert (ours.low, ours.high) == (close(low, low, high), close(high, low, high))


def test_the_probability_of_improvement_and_its_interval() -> None:
    # Better is higher there and lower here: the sides change places.
    points, intervals = rliable.get_interval_estimates(
        {"a": (THEIRS, OURS)}, metrics.probability_of_improvement, reps=3_000
    )
    ours = probability_of_improvement(GROUPS, OTHERS)
    assert ours.value == pytest.approx(float(points["a"]), rel=1e-12)
    low, high = (float(end) for end in intervals["a"].ravel())
    assert (ours.low, ours.high) == (close(low, low, high), close(high, low, high))


def test_the_performance_profile_and_its_band() -> None:
    profiles, bands = rliable.create_performance_profile({"a": OURS}, THRESHOLDS, reps=20_000)
    ours = performance_profile(GROUPS, THRESHOLDS)
    assert ours.share == pytest.approx(1.0 - profiles["a"], abs=1e-12)
    # One run of 20 is the step of every share, and an end lies on one step or on the next.
    assert ours.low == pytest.approx(1.0 - bands["a"][1], abs=0.05 + 1e-12)
    assert ours.high == pytest.approx(1.0 - bands["a"][0], abs=0.05 + 1e-12)
