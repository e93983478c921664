"""Static scaling: the replica counts of the start, or given ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.config import ConfigError, nearest
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo


class StaticScaling:
    """Never changes replica counts.

    Args:
        replicas: count per microservice; those that are absent keep the count of the start.
    """

    def __init__(self, *, replicas: dict[str, int] | None = None) -> None:
        self._replicas = replicas or {}

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Take the counts of the start.

        Raises:
            ConfigError: `replicas` names an unknown microservice or is outside the cluster's bounds.
        """
        self._wanted = info.initial_replicas.astype(np.int64)
        for name, count in self._replicas.items():
            if name not in info.microservices:
                raise ConfigError(f"replicas: no microservice {name!r}; {nearest(name, info.microservices)}")
            if not info.min_replicas <= count <= info.max_replicas:
                raise ConfigError(
                    f"replicas.{name}: {count} is outside {info.min_replicas}..{info.max_replicas} of the scenario"
                )
            self._wanted[info.microservices.index(name)] = count

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        """(M,) int64, always the same."""
        return self._wanted.copy()
