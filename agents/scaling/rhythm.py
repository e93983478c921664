"""Rhythm: the SLA is shared out in proportion to each microservice's contribution to the tail latency.

Zhao et al., EuroSys'20, in the adaptation to container scaling that Erms and Imbres compare with (Imbres section 6.1):
targets in proportion to the normalised product of mean latency, its variation over loads, and its correlation with
the E2E latency. Symbols: P share of mean latency, V normalised variation, rho Pearson correlation with the tail.

Imbres' text says "variance", without a formula. Read as Rhythm's own V, a deviation over the mean: the mean cancels in
P V, which is left in proportion to the deviation. The variance itself would give nearly all of the SLA to the
microservice that varies most, and more containers to the others than the hosts hold (2,184 on Social Network, not 233).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.scaling.latency_targets import OfflineStatistics, WeightedTargetScaling

LEAST_CORRELATION = 0.01
"""Stands for a correlation that is smaller, so that every microservice gets a target (estimate)."""


class RhythmScaling(WeightedTargetScaling):
    """Targets in proportion to P V rho, from the profiled loads; rho is that of the request class.

    Args:
        profile, headroom: see `ProfiledScaling`.
    """

    def _weights(self, statistics: OfflineStatistics) -> NDArray[np.float64]:
        return contributions(statistics.mean_ms, statistics.tail_ms)


def contributions(mean_ms: NDArray[np.float64], tail_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Contribution of each microservice to the tail latency: C_i = rho_i P_i V_i.

    With m load levels, P_i = mean T_i / sum of mean T, V_i = sqrt(sum (T_ij - mean T_i)^2 / (m (m - 1))) / mean T_i.

    Args:
        mean_ms: (m, M) mean own latency T per load level, m >= 2.
        tail_ms: (m,) tail of the E2E latency.

    Returns:
        (M,) float64 > 0.
    """
    m = len(tail_ms)
    T = np.maximum(mean_ms, 1e-6)
    mean = T.mean(axis=0)
    spread = T - mean
    P = mean / mean.sum()
    V = np.sqrt((spread**2).sum(axis=0) / (m * (m - 1))) / mean
    tail = tail_ms - tail_ms.mean()
    scale = np.sqrt((spread**2).sum(axis=0) * (tail**2).sum())
    rho = np.divide(spread.T @ tail, scale, out=np.zeros_like(mean), where=scale > 0.0)
    weights: NDArray[np.float64] = np.maximum(P * V * np.maximum(rho, LEAST_CORRELATION), 1e-12)
    return weights
