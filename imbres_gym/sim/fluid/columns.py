"""Common random numbers: the same well-spread sample of every random quantity in every step.

A request's latency is a sum and maximum of many independent parts. `SAMPLES` requests are composed; each part has a
*column* that gives every one of them another of `SAMPLES` equally likely strata, in an order of its own (Latin hypercube
sampling). So every part has its exact distribution in the sample, and what changes between two steps is the cluster.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.fluid.compiled import kernel
from imbres_gym.sim.fluid.surfaces import LEVELS

Floats = NDArray[np.float64]

SAMPLES = 128
COLUMNS = 509
"""Orders of the strata; a prime, so that kinds of the same structure do not share theirs in step."""


class Columns(NamedTuple):
    """What the strata stand for; stratum j holds the chances from j / n to (j + 1) / n."""

    order: NDArray[np.int16]  # (COLUMNS, n) stratum of each sample
    chance: Floats  # (n,) its middle, in (0, 1)
    exponential: Floats  # (n,) -log(chance)
    low: NDArray[np.int64]  # (n,) places of the tabulated quantiles around 1 - chance, and their weights
    high: NDArray[np.int64]
    low_weight: NDArray[np.float32]
    high_weight: NDArray[np.float32]
    gamma: Floats  # (shapes, n) mean of the stratum of a Gamma variate of mean 1


def make_columns(shapes: Floats, samples: int = SAMPLES) -> Columns:
    """The columns for Gamma variates of these shapes; always the same."""
    rng = np.random.default_rng(0)
    chance = (np.arange(samples) + 0.5) / samples
    low, high, low_weight, high_weight = between_levels(1.0 - chance)
    return Columns(
        order=np.stack([rng.permutation(samples).astype(np.int16) for _ in range(COLUMNS)]),
        chance=chance,
        exponential=-np.log(chance),
        low=low,
        high=high,
        low_weight=low_weight.astype(np.float32),
        high_weight=high_weight.astype(np.float32),
        gamma=np.stack([gamma_strata(float(shape), samples) for shape in shapes]),
    )


def between_levels(tail: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    """Places in `LEVELS` around chances of being exceeded, and weights: linear in log; nothing is lost at chance 1."""
    logs = -np.log(LEVELS)
    place = np.interp(-np.log(tail), logs, np.arange(len(LEVELS)))
    low = np.minimum(place.astype(np.int64), len(LEVELS) - 2)
    part = place - low
    common = tail > LEVELS[0]
    share = np.where(common, (1.0 - tail) / (1.0 - LEVELS[0]), 1.0)
    return low, low + 1, (1.0 - part) * share, part * share


def gamma_strata(shape: float, count: int) -> Floats:
    """(count,) means of equally likely parts of a Gamma variate of mean 1."""
    from scipy.special import gammainc, gammaincinv

    if math.isinf(shape) or shape > 1e5:
        return np.ones(count)
    edges = gammaincinv(shape, np.linspace(0.0, 1.0, count + 1))
    return np.asarray(count * np.diff(gammainc(shape + 1.0, edges)))


@kernel
def tail_at(quantiles, value):
    """Chance that a distribution, given by its quantiles at `LEVELS`, exceeds a value."""
    n = len(LEVELS)
    if value < quantiles[0]:
        return 1.0 - (1.0 - LEVELS[0]) * (value / quantiles[0] if quantiles[0] > 0.0 else 1.0)
    for j in range(1, n):
        if value < quantiles[j]:
            part = (value - quantiles[j - 1]) / (quantiles[j] - quantiles[j - 1])
            return LEVELS[j - 1] * (LEVELS[j] / LEVELS[j - 1]) ** part
    return 0.0
