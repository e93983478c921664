"""Load balancing: every ready container gets the same load."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.observation import Observation
from imbres_gym.plan import balanced_proportions
from imbres_gym.telemetry import ClusterInfo


class BalancedLoad:
    """Each host gets load in proportion to its ready containers, as a Kubernetes service does."""

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Nothing to remember."""

    def propose(self, observation: Observation) -> NDArray[np.float64]:
        """(M, H) float64 [0-1]: ready containers of the host over those of the microservice."""
        return balanced_proportions(observation["ready"])
