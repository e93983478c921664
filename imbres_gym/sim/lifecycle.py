"""Containers come and go: how replica counts are reached (`docs/event-engine.md`, "Containers over time")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.scheduling import place, removal_order
from imbres_gym.sim.state import DRAINING, FREE, GONE, PENDING, READY
from imbres_gym.telemetry import ClusterInfo


class Population(Protocol):
    """Containers of an episode, whatever the engine: what `Lifecycle` reads and changes."""

    wanted: NDArray[np.int64]
    """(M,) replicas."""
    placement: NDArray[np.int64]
    """(M, H) wanted containers per host; a row of zeros leaves it to the scheduler."""
    rng: np.random.Generator
    """Breaks ties between hosts."""
    next_id: int

    @property
    def slots(self) -> NDArray[np.void]:
        """Records with the fields id, life, microservice, host, created and ready_at [ms]."""
        ...

    @property
    def now_ms(self) -> float:
        """Time since the start of the episode."""
        ...

    def more_slots(self) -> None:
        """Make room for more containers; the new slots are free."""
        ...


P = TypeVar("P", bound=Population)


@dataclass(frozen=True)
class Lifecycle(Generic[P]):
    """Creates and removes containers of an episode as a ReplicaSet and the scheduler do.

    Attributes:
        info: sizes and limits.
        host_memory_mb: memory of a host.
        equip: fills in what the engine has of new containers besides; gets the population, (n,) slots of one
            microservice and (n,) phases of the containers' CFS periods [0-1).
    """

    info: ClusterInfo
    host_memory_mb: float
    equip: Callable[[P, NDArray[np.int64], NDArray[np.float64]], None]

    def reconcile(self, population: P, startup_s: float) -> bool:
        """Create or remove containers until there are as many as wanted, or no host has room.

        Returns:
            Whether one that may have taken requests was removed: calls must be routed anew.
        """
        slots = population.slots
        counted = (slots["life"] == READY) | (slots["life"] == PENDING)
        there = np.bincount(slots["microservice"][counted], minlength=len(population.wanted))
        changed = False
        for m in np.flatnonzero(there != population.wanted):
            missing = int(population.wanted[m] - there[m])
            if missing > 0:
                self._create(population, int(m), missing, startup_s)
            else:
                _remove(population, int(m), -missing)
                changed = True
        return changed

    def _create(self, population: P, microservice: int, count: int, startup_s: float) -> None:
        """Place and start up to `count` containers, as many as there is room for."""
        info, slots = self.info, population.slots
        n_hosts = len(info.hosts)
        alive = (slots["life"] != FREE) & (slots["life"] != GONE)
        kinds, hosts = slots["microservice"][alive], slots["host"][alive]
        capacity = (info.host_cores, self.host_memory_mb)
        need = (float(info.cores[microservice]), float(info.memory_mb[microservice]))
        counts = np.bincount(hosts[kinds == microservice], minlength=n_hosts)
        used_cores = np.bincount(hosts, info.cores[kinds], n_hosts)
        used_mb = np.bincount(hosts, info.memory_mb[kinds], n_hosts)
        placement = _placement_of(population, microservice)
        free_cores, free_mb = capacity[0] - used_cores, capacity[1] - used_mb
        placed, phases = [], []
        for _ in range(count):
            host = place(counts, free_cores, free_mb, need, capacity, population.rng, placement)
            if host < 0:
                break
            placed.append(host)
            phases.append(population.rng.random())
            counts[host] += 1
            free_cores[host] -= need[0]
            free_mb[host] -= need[1]
        while np.count_nonzero(population.slots["life"] == FREE) < len(placed):
            population.more_slots()
        slots = population.slots
        new = np.flatnonzero(slots["life"] == FREE)[: len(placed)]
        slots[new] = np.zeros((), slots.dtype)
        slots["id"][new] = population.next_id + np.arange(len(new))
        slots["created"][new] = population.now_ms
        slots["ready_at"][new] = population.now_ms + startup_s * 1e3
        slots["life"][new] = PENDING
        slots["microservice"][new] = microservice
        slots["host"][new] = placed
        self.equip(population, new, np.array(phases))
        population.next_id += len(new)


def _remove(population: Population, microservice: int, count: int) -> None:
    """Let `count` containers of a microservice drain."""
    slots = population.slots
    mine = np.flatnonzero(
        (slots["microservice"] == microservice) & ((slots["life"] == READY) | (slots["life"] == PENDING))
    )
    order = removal_order(
        slots["life"][mine] == READY,
        slots["host"][mine].astype(np.int64),
        slots["created"][mine],
        slots["id"][mine],
        _placement_of(population, microservice),
    )
    slots["life"][mine[order[:count]]] = DRAINING


def wake(population: Population, now_ms: float) -> bool:
    """Containers whose start-up is over take requests; whether there were any."""
    slots = population.slots
    due = (slots["life"] == PENDING) & (slots["ready_at"] <= now_ms + 1e-6)
    slots["life"][due] = READY
    return bool(due.any())


def _placement_of(population: Population, microservice: int) -> NDArray[np.int64] | None:
    """(H,) containers wanted per host, None if that is left to the scheduler."""
    wanted = population.placement[microservice]
    return wanted if wanted.any() else None
