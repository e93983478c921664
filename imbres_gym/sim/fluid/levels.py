"""Between the tabulated quantiles of the surfaces."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.fluid.surfaces import LEVELS

Floats = NDArray[np.float64]


def between_levels(tail: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    """Places in `LEVELS` around chances of being exceeded, and weights: linear in log; nothing is lost at chance 1."""
    logs = -np.log(LEVELS)
    place = np.interp(-np.log(tail), logs, np.arange(len(LEVELS)))
    low = np.minimum(place.astype(np.int64), len(LEVELS) - 2)
    part = place - low
    common = tail > LEVELS[0]
    share = np.where(common, (1.0 - tail) / (1.0 - LEVELS[0]), 1.0)
    return low, low + 1, (1.0 - part) * share, part * share


@inlined
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


@inlined
def at_level(quantiles, tail):
    """Quantile that is exceeded with a chance, between the levels of the surfaces."""
    n = len(LEVELS)
    for j in range(n - 1):
        if tail >= LEVELS[j + 1]:
            part = min(max(math.log(tail / LEVELS[j]) / math.log(LEVELS[j + 1] / LEVELS[j]), 0.0), 1.0)
            return quantiles[j] + part * (quantiles[j + 1] - quantiles[j])
    return quantiles[n - 1]
