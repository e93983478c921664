"""Containers come and go: how replica counts are reached (`docs/event-engine.md`, "Containers over time")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

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


class _Room(NamedTuple):
    """What is on the hosts, and what they have left; brought up to date as containers are placed."""

    counts: NDArray[np.int64]  # (M, H) containers
    cores: NDArray[np.float64]  # (H,) that no container has requested
    memory_mb: NDArray[np.float64]  # (H,) likewise


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
        room: _Room | None = None
        changed = False
        for m in np.flatnonzero(there != population.wanted):
            missing = int(population.wanted[m] - there[m])
            if missing > 0:
                room = room or self._room(population)
                self._create(population, int(m), missing, startup_s, room)
            else:
                _remove(population, int(m), -missing)
                changed = True
        return changed

    def _room(self, population: P) -> _Room:
        """What containers, those that drain too, leave free."""
        info, slots = self.info, population.slots
        alive = (slots["life"] != FREE) & (slots["life"] != GONE)
        kinds, hosts = slots["microservice"][alive].astype(np.int64), slots["host"][alive]
        n_microservices, n_hosts = len(info.microservices), len(info.hosts)
        return _Room(
            counts=np.bincount(kinds * n_hosts + hosts, minlength=n_microservices * n_hosts).reshape(-1, n_hosts),
            cores=np.asarray(info.host_cores - np.bincount(hosts, info.cores[kinds], n_hosts), np.float64),
            memory_mb=np.asarray(self.host_memory_mb - np.bincount(hosts, info.memory_mb[kinds], n_hosts), np.float64),
        )

    def _create(self, population: P, microservice: int, count: int, startup_s: float, room: _Room) -> None:
        """Place and start up to `count` containers, as many as there is room for."""
        info = self.info
        placed, phases = place(
            count,
            room.counts[microservice],
            room.cores,
            room.memory_mb,
            (float(info.cores[microservice]), float(info.memory_mb[microservice])),
            (info.host_cores, self.host_memory_mb),
            population.rng,
            _placement_of(population, microservice),
        )
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
        self.equip(population, new, phases)
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
