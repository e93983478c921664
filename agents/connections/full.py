"""Full connection: every upstream container talks to every downstream container."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.observation import Observation
from imbres_gym.plan import FULL_CONNECTION, ConnectionPlan
from imbres_gym.telemetry import ClusterInfo


class FullConnections:
    """Leaves every pair fully connected; each upstream container then follows the load proportions itself."""

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Nothing to remember."""

    def connect(self, observation: Observation, proportions: NDArray[np.float64]) -> ConnectionPlan:
        """The plan without links."""
        return FULL_CONNECTION
