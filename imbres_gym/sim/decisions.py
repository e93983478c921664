"""Parts of a plan as the engines take them: checked, and copied."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled
from imbres_gym.telemetry import ClusterInfo

SUM_TOLERANCE = 1e-5
"""How far from 1 a row of load proportions may sum: they may come in single precision."""


def legal_proportions(proportions: NDArray[np.float64], ready: NDArray[np.int64]) -> NDArray[np.float64]:
    """(M, H) load proportions, 0 where there is no ready container.

    Raises:
        ValueError: wrong shape, negative, or a row that does not sum to 1.
    """
    given, legal = np.asarray(proportions, np.float64), np.empty(ready.shape)
    flaw = _legal(given, ready, legal) if given.shape == ready.shape else ILL_FORMED
    if flaw == ILL_FORMED:
        raise ValueError(f"proportions must be {ready.shape} and >= 0")
    if flaw == NO_SHARE:
        raise ValueError("each row of the proportions must sum to 1 over hosts with ready containers")
    return legal


SOUND, ILL_FORMED, NO_SHARE = range(3)


@compiled
def _legal(given: NDArray[np.float64], ready: NDArray[np.int64], legal: NDArray[np.float64]) -> int:
    """Overwrite `legal`; what is wrong."""
    flaw = SOUND
    for m in range(given.shape[0]):
        containers, total = 0, 0.0
        for h in range(given.shape[1]):
            if not given[m, h] >= 0.0:  # NaN included
                return ILL_FORMED
            legal[m, h] = 0.0
            if ready[m, h] > 0:
                legal[m, h] = given[m, h]
                containers += ready[m, h]
                total += given[m, h]
        if containers > 0 and not abs(total - 1.0) <= SUM_TOLERANCE:
            flaw = NO_SHARE
    return flaw


def legal_placement(placement: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """(M, H) wanted containers per host.

    Raises:
        ValueError: wrong shape or negative.
    """
    given = np.array(placement, np.int64)
    if given.shape != shape or np.any(given < 0):
        raise ValueError(f"placement must be {shape} and >= 0")
    return given


def legal_anomaly(anomaly: NDArray[np.float64] | None, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """(M, H, 4) utilisation, or None.

    Raises:
        ValueError: wrong shape or values.
    """
    if anomaly is None:
        return None
    given = np.array(anomaly, np.float64)
    if given.shape != (*shape, 4) or not np.all((given >= 0.0) & (given <= 1.0)):
        raise ValueError(f"an anomaly must be {(*shape, 4)} and between 0 and 1")
    return given


def legal_replicas(replicas: NDArray[np.int64], info: ClusterInfo) -> NDArray[np.int64]:
    """(M,) wanted containers.

    Raises:
        ValueError: wrong shape, or outside the limits.
    """
    given = np.array(replicas, np.int64)
    low, high, count = info.min_replicas, info.max_replicas, len(info.microservices)
    if given.shape != (count,) or np.any(given < low) or np.any(given > high):
        raise ValueError(f"replicas must be {count} counts between {low} and {high}")
    return given
