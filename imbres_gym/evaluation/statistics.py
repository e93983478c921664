"""Means and aggregates with their uncertainty.

One scenario: the mean over seeds with Student's t-interval. Several scenarios: the estimators of Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021), with stratified-bootstrap intervals:
the seeds are resampled within each scenario, the scenarios stay, for they are chosen and not drawn. The authors' own
implementation is rliable; this one also takes scenarios with different numbers of seeds.

The bootstrap is too narrow where a scenario has few seeds: resampling n values yields (n - 1) / n of their variance, so
that an interval that says 95 % covers a mean over many scenarios with about 83 % at two seeds, 89 % at three, 92 % at
five and 94 % at ten; with one seed there is none. Many scenarios do not mend that. Student's t knows about it, and so
stays for the table of one scenario.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

CONFIDENCE = 0.95
"""Probability with which an interval is meant to cover the true value."""

RESAMPLES = 10_000
"""Bootstrap repetitions: drawn afresh, an end of an interval would move by about 1 % of its width."""

_ENDS = (0.5 - CONFIDENCE / 2.0, 0.5 + CONFIDENCE / 2.0)

_SEED = 0
"""Of the resampling: the same data always have the same interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Aggregate:
    """A statistic over scenarios and seeds, and its 95 % stratified-bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Profile:
    """A performance profile with its pointwise 95 % band.

    Attributes:
        thresholds: (T,) values of a metric of which less is better.
        share: (T,) of the runs that are at most as high [0-1].
        low, high: (T,) ends of the band.
    """

    thresholds: Floats
    share: Floats
    low: Floats
    high: Floats


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


def interquartile_mean(values: Floats) -> Floats:
    """Mean without the smallest and the largest quarter of the last axis (section 4.3).

    Of n values, floor(n / 4) are left out on each side, as in `scipy.stats.trim_mean`: none of three, one of five.

    Args:
        values: (..., n), n >= 1.

    Returns:
        (...).
    """
    count = values.shape[-1]
    cut = count // 4
    middle = np.partition(values, (cut, count - cut - 1), axis=-1)[..., cut : count - cut]
    return np.asarray(middle.mean(axis=-1))


def pooled_mean(values: Floats) -> Floats:
    """Mean of all runs of the last axis: for shares of which no extreme may be left out, such as violations."""
    return np.asarray(values.mean(axis=-1))


def stratified_bootstrap(
    scores: Sequence[Floats],
    statistic: Callable[[Floats], Floats] = interquartile_mean,
    resamples: int = RESAMPLES,
) -> Aggregate:
    """A statistic of all runs of all scenarios together, with its percentile interval (section 4.1).

    Args:
        scores: per scenario one value per seed, at least one.
        statistic: maps runs on the last axis, (..., n), to (...).
        resamples: bootstrap repetitions.

    Raises:
        ValueError: no scenario, or one without a value.
    """
    _check(scores)
    generator = np.random.default_rng(_SEED)
    drawn = np.concatenate([_resample(values, resamples, generator) for values in scores], axis=1)
    return _aggregate(float(statistic(np.concatenate(scores))), statistic(drawn))


def probability_of_improvement(
    scores: Sequence[Floats], reference: Sequence[Floats], resamples: int = RESAMPLES
) -> Aggregate:
    """Probability that a run is better, which is *lower*, than one of the reference in the same scenario (section 4.3).

    Of all pairs of a run and a reference run, the share where the run is lower, ties counted half (Mann and Whitney's
    U over the number of pairs); then the mean over the scenarios. Both sides are resampled, each on its own.

    Args:
        scores: per scenario one value per seed, at least one.
        reference: likewise, for the same scenarios; the numbers of seeds may differ.
        resamples: bootstrap repetitions.

    Raises:
        ValueError: no scenario, one without a value, or another number of scenarios.
    """
    _check(scores)
    _check(reference)
    if len(scores) != len(reference):
        raise ValueError(f"{len(scores)} scenarios against {len(reference)} of the reference")
    generator = np.random.default_rng(_SEED)
    point, drawn = 0.0, np.zeros(resamples)
    for ours, theirs in zip(scores, reference, strict=True):
        wins = (ours[:, None] < theirs) + 0.5 * (ours[:, None] == theirs)
        point += float(wins.mean()) / len(scores)
        # How often each run is drawn decides; the comparisons themselves stay the same.
        weights = _draw_weights(len(ours), resamples, generator), _draw_weights(len(theirs), resamples, generator)
        drawn += np.einsum("ri,ij,rj->r", weights[0], wins, weights[1], optimize=True) / len(scores)
    return _aggregate(point, drawn)


def performance_profile(scores: Sequence[Floats], thresholds: Floats, resamples: int = RESAMPLES) -> Profile:
    """Share of the runs that are at most as high as each threshold, mean over the scenarios (section 4.2).

    The higher the curve the better, for less is better of every metric here: one minus rliable's profile.

    Args:
        scores: per scenario one value per seed, at least one.
        thresholds: (T,).
        resamples: bootstrap repetitions.

    Raises:
        ValueError: no scenario, or one without a value.
    """
    _check(scores)
    generator = np.random.default_rng(_SEED)
    share, drawn = np.zeros(len(thresholds)), np.zeros((resamples, len(thresholds)))
    for values in scores:
        reached = (values[:, None] <= thresholds).astype(np.float64)
        share += reached.mean(axis=0) / len(scores)
        drawn += _draw_weights(len(values), resamples, generator) @ reached / len(scores)
    low, high = np.quantile(drawn, _ENDS, axis=0)
    return Profile(thresholds, share, low, high)


def _check(scores: Sequence[Floats]) -> None:
    if not scores or any(len(values) == 0 for values in scores):
        raise ValueError("an aggregate needs at least one scenario, and at least one value in each")


def _resample(values: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """As many values as there are, drawn with replacement: (resamples, n)."""
    return np.asarray(values[generator.integers(len(values), size=(resamples, len(values)))])


def _draw_weights(count: int, resamples: int, generator: np.random.Generator) -> Floats:
    """Share of a resample that each value makes up: (resamples, count), rows sum to 1."""
    return generator.multinomial(count, np.full(count, 1.0 / count), size=resamples) / count


def _aggregate(value: float, drawn: Floats) -> Aggregate:
    low, high = np.quantile(drawn, _ENDS)
    return Aggregate(value, float(low), float(high))
