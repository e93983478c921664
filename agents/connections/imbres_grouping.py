"""Imbres' connection management: groups of equally fast upstream containers (section 4.2.2, ASPLOS'25)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from agents.connections.clustering import kmeans_1d
from agents.connections.matching import Receivers, Senders, match, order_receivers, order_senders
from agents.containers import Containers, connected_pairs, ready_containers
from agents.performance_table import LatencyTable, PerformanceTable
from imbres_gym.config import ConfigError
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

    Args:
        least_group: members that a group has at least, as a share [0-1] of groups of equal size. The paper has no such
            bound, which is 0: K-means makes a group of one container that is far slower than all others, and that one
            is connected to all downstream containers of each pair. Where a microservice calls hundreds of others, so
            many connections overload it, and it stays the slowest (`docs/trace-driven.md`).

    Raises:
        ConfigError: `least_group` is out of range.

    Attributes:
        table: the performance table that predicts latency; a controller hands its own to all tiers.
    """

    table: LatencyTable

    def __init__(self, *, least_group: float = 0.0) -> None:
        if not 0.0 <= least_group <= 1.0:
            raise ConfigError(f"least_group: {least_group} must be between 0 and 1")
        self._least_group = least_group

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Start with an empty performance table."""
        self._info = info
        self.table = PerformanceTable(info)

    def connect(self, observation: Observation, proportions: NDArray[np.float64]) -> ConnectionPlan:
        """Links of every pair whose microservices both have ready containers."""
        self.table.observe(observation)
        containers = ready_containers(observation, proportions)
        latency_ms = self._predict(observation, containers)
        senders: dict[int, Senders] = {}
        receivers: dict[int, Receivers] = {}
        plan: dict[int, Links] = {}
        for pair, (upstream, downstream), up, down in connected_pairs(containers, self._info):
            if upstream not in senders:
                groups = self._info.connections_per_container
                least = max(1, math.ceil(self._least_group * len(up) / groups - 1e-9))
                group = kmeans_1d(latency_ms[upstream], groups, least)
                senders[upstream] = order_senders(up.ids, up.shares, group)
            if downstream not in receivers:
                receivers[downstream] = order_receivers(down.ids, down.shares)
            plan[pair] = match(senders[upstream], receivers[downstream])
        return ConnectionPlan(plan)

    def _predict(self, observation: Observation, containers: list[Containers]) -> list[NDArray[np.float64]]:
        """Tail latency of each container of each microservice [ms]: interference of its host, load by the new shares.

        One look-up for all: a table elsewhere (as in Redis) is asked once.
        """
        counts = [len(of_one) for of_one in containers]
        microservice = np.repeat(np.arange(len(containers)), counts)
        hosts = np.concatenate([of_one.hosts for of_one in containers])
        shares = np.concatenate([of_one.shares for of_one in containers])
        load_rps = observation["load_rps"].sum(axis=1).astype(np.float64)
        latency_ms = self.table.latency_ms(
            microservice, observation["interference"][hosts], load_rps[microservice] * shares
        )
        return np.split(latency_ms, np.cumsum(counts)[:-1])
