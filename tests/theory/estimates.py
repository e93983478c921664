"""Confidence in the results of a simulation: batch means, and comparisons that say how sure they are.

Every comparison passes if estimate and truth differ by at most `Z` standard errors; with correct software and 40
batches (Student's t) that fails once in 3 600 comparisons. A comparison must also be sharp: the standard error is
bounded, so that a fault of a few per cent cannot hide behind noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Z = 4.0
"""Standard errors that an estimate may be away from the truth."""

P_MIN = 1e-4
"""Smallest p-value that a test of a distribution accepts: it fails once in 10 000 times with correct software."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error."""

    value: float
    error: float


def batch_means(batches: ArrayLike) -> Estimate:
    """The mean of batch means that are long enough to be nearly independent."""
    values = np.asarray(batches, dtype=np.float64)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size)))


def in_batches(samples: NDArray[np.float64], count: int) -> Estimate:
    """The mean of a series of correlated samples, from `count` batches of it."""
    return batch_means([batch.mean() for batch in np.array_split(samples, count)])


def quantile_in_batches(samples: NDArray[np.float64], q: float, count: int) -> Estimate:
    """The `q`-quantile of a series of correlated samples, from `count` batches of it."""
    return batch_means([np.quantile(batch, q) for batch in np.array_split(samples, count)])


def assert_agrees(estimate: Estimate, truth: float, sharpness: float = 0.01) -> None:
    """The estimate is within `Z` standard errors of the truth, and these are at most `sharpness` of it."""
    assert estimate.error <= sharpness * abs(truth), f"too noisy to say anything: {estimate} for {truth:.6g}"
    away = abs(estimate.value - truth)
    assert away <= Z * estimate.error + 1e-9 * abs(truth), f"{estimate} is not {truth:.6g}"


def assert_same(one: Estimate, other: Estimate, sharpness: float = 0.02) -> None:
    """Two estimates of one thing agree, and their joint standard error is at most `sharpness` of it."""
    error = float(np.hypot(one.error, other.error))
    assert_agrees(Estimate(one.value, error), other.value, sharpness)


def assert_shares(counts: ArrayLike, shares: ArrayLike) -> None:
    """Counts of independent choices follow the shares (chi-square)."""
    observed, expected = np.asarray(counts, np.float64), np.asarray(shares, np.float64)
    assert np.all(observed[expected == 0.0] == 0.0), f"{observed} where {expected} is zero"
    assert observed.sum() >= 1000, f"{observed} are too few to say anything"
    chosen = expected > 0.0
    if chosen.sum() > 1:
        result = stats.chisquare(observed[chosen], expected[chosen] / expected.sum() * observed.sum())
        assert result.pvalue >= P_MIN, f"{observed} do not follow {expected}: {result}"


def assert_distribution(samples: NDArray[np.float64], cdf: str | Callable[[float], float]) -> None:
    """Independent samples follow a distribution (Kolmogorov-Smirnov)."""
    result = stats.kstest(samples, cdf)
    assert len(samples) >= 1000 and result.pvalue >= P_MIN, f"not the distribution: {result}"
