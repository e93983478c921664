"""Imbres' resource scaling: how many containers (Algorithm 2), and for which microservices (Algorithm 3)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.performance_table import LatencyTable, PerformanceTable
from agents.scaling.clock import IntervalClock
from agents.scaling.per_application import Measured, StepSizes, scale_application
from agents.scaling.per_microservice import imbalance_index, scale_at_random, scale_microservices
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

Criterion = Literal["imbalance", "table", "random"]


class ImbresScaling:
    """Scales the application by its latency gradient and spends the containers on the most critical microservices.

    A decision falls at the end of every scaling interval (the paper's 60 s); in between the last one is repeated. The
    load of the application and of its microservices is the mean over the interval, the latency its p95, of the
    slowest request class. Without requests nothing changes.

    Args:
        eta1: learning rate of Newton's step (the paper's 0.5).
        eta2: learning rate of the first-order step (the paper's 0.2).
        beta: least relative change of latency for Newton's step (the paper's 0.1).
        safety: share of the SLA that is aimed at, (0, 1]. The paper aims at the SLA itself, which is the default; the
            algorithm has no dead band, so it then keeps taking containers until the SLA is violated.
        limit: whether one step changes the load per container by at most a factor of two. Not in the paper, see
            `per_application`.
        maximum_load: whether no container is taken from a microservice whose containers would then exceed their maximum
            load (50 % CPU), see `per_microservice`.
        criterion: what makes a microservice critical: "imbalance" is Algorithm 3; "table" leaves out the imbalance
            index and "random" picks at random (the ablations of section 6.4).

    Raises:
        ConfigError: an option is out of range.

    Attributes:
        table: the performance table; a controller hands its own to all tiers.
    """

    table: LatencyTable

    def __init__(
        self,
        *,
        eta1: float = 0.5,
        eta2: float = 0.2,
        beta: float = 0.1,
        safety: float = 1.0,
        limit: bool = True,
        maximum_load: bool = True,
        criterion: Criterion = "imbalance",
    ) -> None:
        for name, value in (("eta1", eta1), ("eta2", eta2), ("beta", beta)):
            if value <= 0.0:
                raise ConfigError(f"{name}: {value} must be > 0")
        if not 0.0 < safety <= 1.0:
            raise ConfigError(f"safety: {safety} must be in (0, 1]")
        if criterion not in ("imbalance", "table", "random"):
            raise ConfigError(f"criterion: {criterion!r} must be 'imbalance', 'table' or 'random'")
        self._steps = StepSizes(eta1=eta1, eta2=eta2, beta=beta, limit=limit)
        self._safety = safety
        self._maximum_load = maximum_load
        self._criterion = criterion

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Start with the initial counts, an empty table and no history."""
        self.table = PerformanceTable(info)
        self._info = info
        self._rng = np.random.default_rng(seed)
        self._clock = IntervalClock(info.scaling_interval_s)
        self._wanted = info.initial_replicas.astype(np.int64)
        self._last: Measured | None = None
        self._workload: list[float] = []
        self._loads: list[NDArray[np.float64]] = []

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        """(M,) int64 wanted containers, within the cluster's bounds."""
        self.table.observe(observation)
        self._workload.append(float(observation["workload_rps"].sum()))
        self._loads.append(observation["load_rps"].sum(axis=1, dtype=np.float64))
        if self._clock.due(float(observation["time_s"][0])):
            self._decide(observation, float(np.mean(self._workload)), np.mean(self._loads, axis=0))
            self._workload.clear()
            self._loads.clear()
        return self._wanted.copy()

    def _decide(self, observation: Observation, W: float, rho: NDArray[np.float64]) -> None:
        # What runs, with what is about to run: containers that were wanted, but that no host had room for, do not
        # count.
        C = np.maximum((observation["ready"] + observation["pending"]).sum(axis=1).astype(np.int64), 1)
        R = int(C.sum())
        # All classes have the same SLA, so the slowest one decides.
        L = float(observation["window_p95_ms"].max())
        if W <= 0.0 or L <= 0.0:
            return
        info, count = self._info, len(C)
        limits = (info.min_replicas * count, info.max_replicas * count)
        dR = scale_application(R, L, info.sla_ms * self._safety, W, self._last, self._steps, limits)
        self._last = Measured(P=W / R, L=L)
        bounds = (info.min_replicas, info.max_replicas)
        w_max = np.full(count, np.inf)
        if self._maximum_load:
            w_max = self.table.maximum_load_rps(np.arange(count))
        if self._criterion == "random":
            wanted = scale_at_random(dR, C, self._rng, rho, bounds, w_max)
        else:
            alpha = imbalance_index(observation) if self._criterion == "imbalance" else np.ones(count)
            interference = _interference(observation)
            wanted = scale_microservices(
                dR, C, lambda i, w: self.table.latency_ms(i, interference[i], w), rho, alpha, bounds, w_max
            )
        self._wanted = np.clip(wanted, *bounds)


def _interference(observation: Observation) -> NDArray[np.float64]:
    """(M, 4) mean utilisation of the hosts that run each microservice: I_i of eq. (2)."""
    ready = observation["ready"]
    i, j = np.divmod(np.flatnonzero(ready > 0), ready.shape[1])
    hosts = np.maximum(np.bincount(i, minlength=len(ready)), 1)
    interference = observation["interference"][j].astype(np.float64)
    return np.stack([np.bincount(i, of_kind, len(ready)) / hosts for of_kind in interference.T], axis=1)
