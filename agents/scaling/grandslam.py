"""GrandSLAm: the SLA is shared out in proportion to mean latency.

Kannan et al., EuroSys'19: the slack of a stage is the SLA times its share of the mean execution time along
the path. Their batching and reordering of requests have no counterpart in containers that serve requests at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.scaling.latency_targets import OfflineStatistics, WeightedTargetScaling


class GrandSlamScaling(WeightedTargetScaling):
    """Targets in proportion to the mean own latency over the profiled loads.

    Args:
        profile, headroom: see `ProfiledScaling`.
    """

    def _weights(self, statistics: OfflineStatistics) -> NDArray[np.float64]:
        return mean_weights(statistics)


def mean_weights(statistics: OfflineStatistics) -> NDArray[np.float64]:
    """(M,) mean own latency over the load levels [ms], > 0."""
    weights: NDArray[np.float64] = np.maximum(statistics.mean_ms.mean(axis=0), 1e-6)
    return weights
