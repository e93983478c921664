"""Means over seeds with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
"""Probability with which an interval covers the true mean."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], bounds: tuple[float, float] = (0.0, math.inf)) -> Estimate:
    """Mean of independent repetitions and its Student t-interval: mean +- t(0.975, n - 1) s / sqrt(n).

    With the handful of seeds that is usual here, resampling them (the bootstrap) gives intervals that are too narrow;
    the t-interval is exact for normal means, and the metrics are averages over many requests or windows. One value has
    no interval: `low` and `high` equal the mean.

    Args:
        values: one per seed, finite.
        bounds: smallest and largest possible value; the interval is cut off there.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, mean, mean)
    from scipy.special import stdtrit

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2.0)) * deviation / math.sqrt(count)
    return Estimate(mean, min(mean, max(mean - half, bounds[0])), max(mean, min(mean + half, bounds[1])))
