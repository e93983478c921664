"""Judges allocations by short simulations with common random numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.cluster import make_cluster
from imbres_gym.observer import Observer
from imbres_gym.percentiles import class_tails
from imbres_gym.plan import Plan, project_proportions
from imbres_gym.policy import ConnectionPolicy, load_object
from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import Telemetry

Floats = NDArray[np.float64]

QUANTILE_95 = 1.645
"""Standard normal quantile: a mean plus so many deviations is what 95 % of windows stay below."""
HOPELESS = 2.0
"""A window whose p95 is so many times the SLA ends a measurement early: it is overloaded."""


@dataclass(frozen=True)
class Allocation:
    """What the oracle decides, once for a whole episode.

    Attributes:
        replicas: (M,) int64 containers.
        weights: (M, H) load per container on each host; only ratios within a row matter.
        connections: import path of the connection policy.
    """

    replicas: NDArray[np.int64]
    weights: Floats
    connections: str

    @property
    def containers(self) -> int:
        """Their total."""
        return int(self.replicas.sum())


@dataclass(frozen=True)
class Effort:
    """How long an allocation is simulated.

    Attributes:
        seeds: each with a placement and arrivals of its own.
        windows: measured per seed.
        window_s: length of a window [s].
        settle_s: before the first window, after the allocation is in force [s].
    """

    seeds: tuple[int, ...]
    windows: int
    window_s: float
    settle_s: float


class Simulator:
    """Measures allocations of one scenario; the same allocation and effort give the same numbers.

    Attributes:
        simulated_s: simulated so far [s].
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._cluster = make_cluster(scenario)
        self._starts: dict[int, object] = {}
        self.simulated_s = 0.0

    def window_p95_ms(self, allocation: Allocation, effort: Effort) -> Floats:
        """(seeds * windows,) largest p95 over the request classes in each window [ms]; fewer if it is hopeless."""
        worst: list[float] = []
        for seed in effort.seeds:
            self._settle(allocation, seed, effort.settle_s)
            for _ in range(effort.windows):
                worst.append(_worst_p95(self._advance(effort.window_s)))
                if worst[-1] > HOPELESS * self.scenario.sla_ms:
                    return np.array(worst)
        return np.array(worst)

    def score(self, allocation: Allocation, effort: Effort) -> float:
        """What 95 % of windows are estimated to stay below, as a multiple of the SLA [-]; feasible up to 1."""
        return usual_limit(self.window_p95_ms(allocation, effort)) / self.scenario.sla_ms

    def utilisation(self, allocation: Allocation, effort: Effort) -> Floats:
        """(H, 4) utilisation of the hosts by everything on them under an allocation [0-1]."""
        self._settle(allocation, effort.seeds[0], effort.settle_s)
        return self._advance(effort.window_s).interference

    def _settle(self, allocation: Allocation, seed: int, settle_s: float) -> None:
        """An episode of this seed with the allocation in force, as an agent would bring it about."""
        cluster, interval_s = self._cluster, self.scenario.control_interval_s
        if seed in self._starts:
            cluster.restore(self._starts[seed])
        else:
            cluster.reset(seed)
            self._starts[seed] = cluster.snapshot()
        cluster.apply(Plan(replicas=allocation.replicas))
        startup_s = interval_s * max(1.0, math.ceil(self.scenario.startup_s / interval_s))
        telemetry = self._advance(startup_s)
        proportions = proportions_of(allocation.weights, telemetry.ready)
        policy: ConnectionPolicy = load_object(allocation.connections, "connections")()
        policy.reset(cluster.info, seed)
        plan = policy.connect(Observer(cluster.info).observe(telemetry), proportions)
        cluster.apply(Plan(proportions=proportions, connections=plan))
        self._advance(settle_s)

    def _advance(self, seconds: float) -> Telemetry:
        self.simulated_s += seconds
        return self._cluster.advance(seconds)


def usual_limit(values: Floats) -> float:
    """What 95 % of such values stay below, if they are normal: mean + 1.645 standard deviations."""
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return float(values.mean()) + QUANTILE_95 * spread


def proportions_of(weights: Floats, ready: NDArray[np.integer]) -> Floats:
    """(M, H) load proportions that give each ready container its weight: D_j ~ w_j S_j."""
    return project_proportions(weights * ready, ready)[0]


def _worst_p95(telemetry: Telemetry) -> float:
    return max(class_tails(telemetry.latencies_ms, telemetry.requests, telemetry.failed, 95.0))
