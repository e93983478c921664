"""Between the tabulated quantiles of the surfaces."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.fluid.surfaces import LEVELS

LOG_LEVELS = np.log(LEVELS)

P95 = int(np.argmin(np.abs(LEVELS - 0.05)))
"""Place of the 95th percentile."""


@inlined
def tail_at(quantiles, value):
    """Chance that a distribution, given by its quantiles at `LEVELS`, exceeds a value."""
    if value < quantiles[0]:
        return 1.0 - (1.0 - LEVELS[0]) * (value / quantiles[0] if quantiles[0] > 0.0 else 1.0)
    j = P95  # most are near it
    while j > 1 and value < quantiles[j - 1]:
        j -= 1
    while j < len(LEVELS) and value >= quantiles[j]:
        j += 1
    if j == len(LEVELS):
        return 0.0
    part = (value - quantiles[j - 1]) / (quantiles[j] - quantiles[j - 1])
    return math.exp(LOG_LEVELS[j - 1] + part * (LOG_LEVELS[j] - LOG_LEVELS[j - 1]))


@inlined
def at_level(quantiles, tail):
    """Quantile that is exceeded with a chance, between the levels of the surfaces."""
    n = len(LEVELS)
    for j in range(n - 1):
        if tail >= LEVELS[j + 1]:
            part = (math.log(tail) - LOG_LEVELS[j]) / (LOG_LEVELS[j + 1] - LOG_LEVELS[j])
            part = min(max(part, 0.0), 1.0)
            return quantiles[j] + part * (quantiles[j + 1] - quantiles[j])
    return quantiles[n - 1]
