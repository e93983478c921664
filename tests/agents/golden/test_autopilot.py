"""The window scaler worked by hand."""

from __future__ import annotations

import numpy as np

from agents.scaling.autopilot import decayed_peak, limited


def test_the_peak_decays_by_half_in_a_half_life() -> None:
    now, then = np.array([1.0, 3.0]), np.array([4.0, 4.0])
    # 900 s old at a half-life of 900 s: 4 counts as 2.
    np.testing.assert_allclose(decayed_peak([(900.0, then), (0.0, now)], 900.0), [2.0, 3.0])
    np.testing.assert_allclose(decayed_peak([(1800.0, then), (0.0, now)], 900.0), [1.0, 3.0])


def test_small_changes_are_ignored_and_growth_is_limited() -> None:
    current = np.array([10, 10, 10, 10, 10, 1])
    recommended = np.array([11, 9, 12, 8, 35, 3])
    # 10 % is ignored, 20 % is not; 35 is more than twice 10, 3 more than twice 1.
    assert limited(current, recommended).tolist() == [10, 10, 12, 8, 20, 2]
