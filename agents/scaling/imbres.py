"""Imbres' resource scaling: how many containers (Algorithm 2), and for which microservices (Algorithm 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

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
Scope = Literal["application", "service"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class ImbresScaling:
    """Scales the application by its latency gradient and spends the containers on the most critical microservices.

    A decision falls at the end of every scaling interval (the paper's 60 s); in between the last one is repeated. The
    load of the application and of its microservices is the mean over the interval, the latency its p95, of the
    slowest request class. Without requests, or with too few for a p95, nothing changes.

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
        scope: what has a number of containers of its own: the "application" as a whole, as in the paper, steered by its
            slowest request class; or each "service", that is, request class, with the microservices that no slower one
            calls. Not in the paper, whose applications have up to ten classes; among hundreds one is always too slow.
            Microservices that only services with too few requests call keep their containers.
        carried_load: whether containers count with the load that they carry on with, too: none is taken from a
            microservice whose most loaded container would then exceed its quota, since shifted load proportions outlast
            a decision. Not in the paper, whose maximum load is for the mean (`docs/trace-driven.md`).

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
        scope: Scope = "application",
        carried_load: bool = False,
    ) -> None:
        for name, value in (("eta1", eta1), ("eta2", eta2), ("beta", beta)):
            if value <= 0.0:
                raise ConfigError(f"{name}: {value} must be > 0")
        if not 0.0 < safety <= 1.0:
            raise ConfigError(f"safety: {safety} must be in (0, 1]")
        if criterion not in ("imbalance", "table", "random"):
            raise ConfigError(f"criterion: {criterion!r} must be 'imbalance', 'table' or 'random'")
        if scope not in ("application", "service"):
            raise ConfigError(f"scope: {scope!r} must be 'application' or 'service'")
        self._steps = StepSizes(eta1=eta1, eta2=eta2, beta=beta, limit=limit)
        self._safety = safety
        self._maximum_load = maximum_load
        self._criterion = criterion
        self._scope = scope
        self._carried_load = carried_load

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Start with the initial counts, an empty table and no history."""
        self.table = PerformanceTable(info)
        self._info = info
        self._rng = np.random.default_rng(seed)
        self._clock = IntervalClock(info.scaling_interval_s)
        self._wanted = info.initial_replicas.astype(np.int64)
        self._last: dict[int, tuple[Ints, Measured]] = {}
        self._workload: list[Floats] = []
        self._loads: list[Floats] = []

    def scale(self, observation: Observation) -> Ints:
        """(M,) int64 wanted containers, within the cluster's bounds."""
        self.table.observe(observation)
        self._workload.append(observation["workload_rps"].astype(np.float64))
        self._loads.append(observation["load_rps"].sum(axis=1, dtype=np.float64))
        if self._clock.due(float(observation["time_s"][0])):
            self._decide(observation, np.mean(self._workload, axis=0), np.mean(self._loads, axis=0))
            self._workload.clear()
            self._loads.clear()
        return self._wanted.copy()

    def _decide(self, observation: Observation, workload: Floats, rho: Floats) -> None:
        # What runs, with what is about to run: containers that were wanted, but that no host had room for, do not
        # count.
        C = np.maximum((observation["ready"] + observation["pending"]).sum(axis=1).astype(np.int64), 1)
        info = self._info
        units = self._units(workload, observation["window_p95_ms"].astype(np.float64))
        if not units:
            return
        alpha = imbalance_index(observation) if self._criterion == "imbalance" else np.ones(len(C))
        w_max = self.table.maximum_load_rps(np.arange(len(C))) if self._maximum_load else np.full(len(C), np.inf)
        if self._carried_load:
            w_max = np.minimum(w_max, w_max / self.table.target / _most_loaded(observation))
        interference = _interference(observation)
        bounds = (info.min_replicas, info.max_replicas)
        for unit in units:
            of, W, L = unit.members, unit.W, unit.L
            R = int(C[of].sum())
            before = self._last.get(unit.key)
            last = before[1] if before and np.array_equal(before[0], of) else None
            limits = (bounds[0] * len(of), bounds[1] * len(of))
            dR = scale_application(R, L, info.sla_ms * self._safety, W, last, self._steps, limits)
            self._last[unit.key] = of, Measured(P=W / R, L=L)
            if self._criterion == "random":
                wanted = scale_at_random(dR, C[of], self._rng, rho[of], bounds, w_max[of])
            else:
                phi = self._latency_of(of, interference[of])
                wanted = scale_microservices(dR, C[of], phi, rho[of], alpha[of], bounds, w_max[of])
            self._wanted[of] = np.clip(wanted, *bounds)

    def _units(self, workload: Floats, latency: Floats) -> list[_Unit]:
        """What has a number of containers of its own. All classes have the same SLA, so the slowest one decides."""
        if self._scope == "application":
            units = [_Unit(0, np.arange(len(self._wanted)), float(workload.sum()), float(latency.max()))]
        else:
            owner = slowest_service(latency, self._info.called, len(self._wanted))
            units = [
                _Unit(c, np.flatnonzero(owner == c), float(workload[c]), float(latency[c]))
                for c in np.unique(owner[owner >= 0]).tolist()
            ]
        return [unit for unit in units if unit.W > 0.0 and unit.L > 0.0]

    def _latency_of(self, members: Ints, interference: Floats) -> Callable[[Ints, Floats], Floats]:
        """Algorithm 3's phi for some microservices, by their place among these."""
        return lambda i, w: self.table.latency_ms(members[i], interference[i], w)


class _Unit(NamedTuple):
    """What Algorithm 2 is applied to: some microservices, and the requests by which they are judged."""

    key: int
    members: Ints
    W: float
    L: float


def slowest_service(latency: Floats, called: Sequence[Sequence[int]], microservices: int) -> Ints:
    """The slowest of the request classes that call each microservice.

    Args:
        latency: (C,) p95 of the classes; one without requests, or with too few, has 0 [ms].
        called: microservices that each class calls.
        microservices: how many there are.

    Returns:
        (M,) int64 classes; -1 where none has a p95.
    """
    slowest = np.full(microservices, -1, np.int64)
    for c in np.argsort(latency, kind="stable").tolist():
        if latency[c] > 0.0:
            slowest[list(called[c])] = c
    return slowest


def _most_loaded(observation: Observation) -> Floats:
    """(M,) largest load proportion of a container over the mean of all, >= 1; 1 without ready containers."""
    ready = observation["ready"]
    cells = np.flatnonzero(ready > 0)
    i = cells // ready.shape[1]
    largest = np.zeros(len(ready))
    np.maximum.at(largest, i, observation["proportions"].ravel()[cells] / ready.ravel()[cells])
    of_mean: Floats = np.maximum(largest * ready.sum(axis=1), 1.0)
    return of_mean


def _interference(observation: Observation) -> Floats:
    """(M, 4) mean utilisation of the hosts that run each microservice: I_i of eq. (2)."""
    ready = observation["ready"]
    i, j = np.divmod(np.flatnonzero(ready > 0), ready.shape[1])
    hosts = np.maximum(np.bincount(i, minlength=len(ready)), 1)
    interference = observation["interference"][j].astype(np.float64)
    return np.stack([np.bincount(i, of_kind, len(ready)) / hosts for of_kind in interference.T], axis=1)
