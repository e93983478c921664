"""Containers come and go: how replica counts are reached (`docs/event-engine.md`, "Containers over time")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.scenario import Scenario
from imbres_gym.sim.balancing import forget_server
from imbres_gym.sim.episode import Episode
from imbres_gym.sim.program import Program
from imbres_gym.sim.scheduling import place, removal_order
from imbres_gym.sim.state import DRAINING, FREE, GONE, NOW, PENDING, READY, grow
from imbres_gym.telemetry import ClusterInfo


@dataclass(frozen=True)
class Lifecycle:
    """Creates and removes containers of an episode as a ReplicaSet and the scheduler do.

    Attributes:
        scenario: constants of containers and hosts.
        info: sizes and limits.
        program: sizes and limits per microservice as the compiled engine has them.
    """

    scenario: Scenario
    info: ClusterInfo
    program: Program

    def reconcile(self, episode: Episode, startup_s: float) -> bool:
        """Create or remove containers until there are as many as wanted, or no host has room.

        Returns:
            Whether one that may have taken requests was removed: calls must be routed anew.
        """
        changed = False
        for m, wanted in enumerate(episode.wanted):
            slots = episode.state.slots
            mine = np.flatnonzero(
                (slots["microservice"] == m) & ((slots["life"] == READY) | (slots["life"] == PENDING))
            )
            for _ in range(int(wanted) - len(mine)):
                if not self._create(episode, m, startup_s):
                    break
            surplus = len(mine) - int(wanted)
            if surplus > 0:
                order = removal_order(
                    slots["life"][mine] == READY,
                    slots["host"][mine].astype(np.int64),
                    slots["created"][mine],
                    slots["id"][mine],
                    _placement_of(episode, m),
                )
                slots["life"][mine[order[:surplus]]] = DRAINING
                changed = True
        return changed

    def _create(self, episode: Episode, microservice: int, startup_s: float) -> bool:
        """Place and start one container; False if no host has room."""
        info, program, effects = self.info, self.program, self.scenario.effects
        slots = episode.state.slots
        n_hosts = len(info.hosts)
        alive = (slots["life"] != FREE) & (slots["life"] != GONE)
        kinds, hosts = slots["microservice"][alive], slots["host"][alive]
        capacity = (info.host_cores, self.scenario.hosts.memory_mb)
        host = place(
            np.bincount(hosts[kinds == microservice], minlength=n_hosts),
            capacity[0] - np.bincount(hosts, info.cores[kinds], n_hosts),
            capacity[1] - np.bincount(hosts, info.memory_mb[kinds], n_hosts),
            (float(info.cores[microservice]), float(info.memory_mb[microservice])),
            capacity,
            episode.rng,
            _placement_of(episode, microservice),
        )
        if host < 0:
            return False
        free = np.flatnonzero(slots["life"] == FREE)
        if len(free) == 0:
            free = np.array([len(slots)])
            episode.state = grow(episode.state, "slots")
            slots = episode.state.slots
        slots[free[0]] = np.zeros((), slots.dtype)
        slot = slots[free[0]]
        forget_server(episode.state.balancing, int(free[0]))
        now_ms = float(episode.state.clock[NOW])
        slot["id"] = episode.next_id
        slot["created"] = now_ms
        slot["ready_at"] = now_ms + startup_s * 1e3
        slot["quota"] = (program.cores[microservice] - program.idle_cores[microservice]) * program.period_ms
        slot["left"] = slot["quota"]
        slot["period"] = program.period_ms
        slot["wake_loss"] = effects.wake_loss_ms
        slot["slack"] = effects.slack_ms
        slot["cpus"] = effects.cpus
        slot["period_end"] = now_ms + episode.rng.random() * program.period_ms
        slot["last"] = now_ms
        slot["factor"] = 1.0
        slot["parallelism"] = program.parallelism[microservice]
        slot["life"] = PENDING
        slot["microservice"] = microservice
        slot["host"] = host
        slot["workers"] = program.workers[microservice]
        slot["queue_limit"] = program.accept_queue[microservice]
        episode.next_id += 1
        return True


def retire(episode: Episode) -> None:
    """Removed containers that have answered everything leave their host."""
    slots = episode.state.slots
    slots["life"][(slots["life"] == DRAINING) & (slots["inflight"] == 0)] = GONE


def wake(episode: Episode, now_ms: float) -> bool:
    """Containers whose start-up is over take requests; whether there were any."""
    slots = episode.state.slots
    due = (slots["life"] == PENDING) & (slots["ready_at"] <= now_ms + 1e-6)
    slots["life"][due] = READY
    return bool(due.any())


def _placement_of(episode: Episode, microservice: int) -> NDArray[np.int64] | None:
    """(H,) containers wanted per host, None if that is left to the scheduler."""
    wanted = episode.placement[microservice]
    return wanted if wanted.any() else None
