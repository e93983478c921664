"""The fewest connections that carry given load proportions: matching without groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.connections.matching import match, order_receivers, order_senders
from agents.containers import connected_pairs, ready_containers
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
        containers = ready_containers(observation, proportions)
        return ConnectionPlan(
            {
                pair: match(order_senders(up.ids, up.shares), order_receivers(down.ids, down.shares))
                for pair, _, up, down in connected_pairs(containers, self._info)
            }
        )
