"""Load proportions from fixed weights per container."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.plan import project_proportions
from imbres_gym.telemetry import ClusterInfo


class FixedWeights:
    """D_j in proportion to w_j S_j: every ready container has the weight of its host, however many there are.

    Args:
        weights: (M, H) load per container, >= 0; only ratios within a row matter.
    """

    def __init__(self, *, weights: list[list[float]]) -> None:
        self._given = weights

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Check the weights against the cluster.

        Raises:
            ConfigError: they are not (M, H), negative or not finite.
        """
        shape = (len(info.microservices), len(info.hosts))
        if [len(row) for row in self._given] != [shape[1]] * shape[0]:
            raise ConfigError(f"weights: must be {shape[0]} rows (microservices) of {shape[1]} numbers (hosts)")
        self._weights = np.array(self._given, np.float64).reshape(shape)
        if not np.all(np.isfinite(self._weights) & (self._weights >= 0.0)):
            raise ConfigError("weights: must be finite and >= 0")

    def propose(self, observation: Observation) -> NDArray[np.float64]:
        """(M, H) rows that sum to 1 over hosts with ready containers."""
        return project_proportions(self._weights * observation["ready"], observation["ready"])[0]
