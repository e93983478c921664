"""The fewest connections that carry given load proportions: matching without groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.connections.matching import match
from agents.containers import connected_pairs, container_shares
from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan
from imbres_gym.telemetry import ClusterInfo


class FewestConnections:
    """Matches all upstream containers of a pair with all downstream ones: at most N_up + N_down - 1 connections.

    The matching of Imbres (section 4.2.2, ASPLOS'25) with a single group. Downstream containers receive exactly their
    shares if upstream containers send theirs, which holds while the proportions upstream hold; Imbres' groups make the
    plan robust against upstream containers that send less than their share.
    """

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Nothing to remember but the cluster."""
        self._info = info

    def connect(self, observation: Observation, proportions: NDArray[np.float64]) -> ConnectionPlan:
        """Links of every pair whose microservices both have ready containers."""
        return ConnectionPlan(
            {
                pair: match(
                    up.ids,
                    container_shares(up, proportions[upstream]),
                    down.ids,
                    container_shares(down, proportions[downstream]),
                )
                for pair, (upstream, downstream), up, down in connected_pairs(observation, self._info)
            }
        )
