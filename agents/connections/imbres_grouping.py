"""Imbres' connection management: groups of equally fast upstream containers (section 4.2.2, ASPLOS'25)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.connections.clustering import kmeans_1d
from agents.connections.matching import match
from agents.containers import Containers, connected_pairs, container_shares
from agents.performance_table import LatencyTable, PerformanceTable
from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan, Links
from imbres_gym.telemetry import ClusterInfo


class GroupingConnections:
    """Groups the upstream containers of every pair by predicted latency; each group serves all of downstream.

    Slow upstream containers send less than their share of calls, so load proportions hold downstream only if every
    set of equally fast containers meets them by itself.

    The budget of a pair is `connections_per_container * N_down`. The number of groups is the budget over N_down, as
    printed, and a group needs up to N_down + its size - 1 connections: in all up to budget + N_up, so the budget can
    be exceeded by the number of upstream containers. Groups of one container, as with no more upstream containers than
    groups and different latencies, are fully connected. The plan is made anew every control interval.

    Attributes:
        table: the performance table that predicts latency; a controller hands its own to all tiers.
    """

    table: LatencyTable

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Start with an empty performance table."""
        self._info = info
        self.table = PerformanceTable(info)

    def connect(self, observation: Observation, proportions: NDArray[np.float64]) -> ConnectionPlan:
        """Links of every pair whose microservices both have ready containers."""
        self.table.observe(observation)
        group: dict[int, NDArray[np.int64]] = {}
        plan: dict[int, Links] = {}
        for pair, (upstream, downstream), up, down in connected_pairs(observation, self._info):
            if upstream not in group:
                latency_ms = self._predict(observation, upstream, up, proportions[upstream])
                group[upstream] = kmeans_1d(latency_ms, self._info.connections_per_container)
            plan[pair] = match(
                up.ids,
                container_shares(up, proportions[upstream]),
                down.ids,
                container_shares(down, proportions[downstream]),
                group[upstream],
            )
        return ConnectionPlan(plan)

    def _predict(
        self, observation: Observation, microservice: int, containers: Containers, proportions: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(n,) tail latency of each container [ms]: interference of its host, load by the new proportions."""
        load = float(observation["load_rps"][microservice].sum())
        shares = container_shares(containers, proportions)
        of_host: dict[int, float] = {}
        for host, share in zip(containers.hosts.tolist(), shares.tolist(), strict=True):
            if host not in of_host:
                of_host[host] = self.table.latency_ms(microservice, observation["interference"][host], load * share)
        return np.array([of_host[host] for host in containers.hosts.tolist()])
