"""Everything about a simulated cluster that changes in an episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import Balancer, ConnectionPlan
from imbres_gym.sim.clients import Directory
from imbres_gym.sim.routing import Routing
from imbres_gym.sim.state import DRAINING, GONE, NOW, State, World, grow


@dataclass
class Episode:
    """The compiled state, and what changes besides it; a copy is a snapshot."""

    state: State
    rng: np.random.Generator  # placement ties
    interference: NDArray[np.float64]  # (steps, H, 4)
    anomaly: NDArray[np.float64] | None  # (M, H, 4), injected
    world: World
    wanted: NDArray[np.int64]  # (M,)
    proportions: NDArray[np.float64]  # (M, H)
    ready: NDArray[np.int64]  # (M, H) that the proportions are for
    plan: ConnectionPlan
    balancer: Balancer
    placement: NDArray[np.int64]  # (M, H), rows of zeros where there is none
    routing: Routing
    directory: Directory  # who the clients of `state.balancing` are
    utilisation: NDArray[np.float64]  # (H, 4) in the last tick
    next_id: int
    next_tick_s: float
    measured_s: float  # end of the last telemetry
    latency: NDArray[np.float64]  # (3, M, H) last known mean, p95, and time of the sample [s]
    microservice_p95: NDArray[np.float64]
    e2e: NDArray[np.float64]  # (C, 4) last known
    links: NDArray[np.int64]  # open at the last telemetry

    @property
    def slots(self) -> NDArray[np.void]:
        """Records of the containers."""
        return self.state.slots

    @property
    def now_ms(self) -> float:
        """Time since the start of the episode."""
        return float(self.state.clock[NOW])

    def more_slots(self) -> None:
        """Make room for more containers."""
        self.state = grow(self.state, "slots")


def retire(episode: Episode) -> None:
    """Removed containers that have answered everything leave their host."""
    slots = episode.slots
    slots["life"][(slots["life"] == DRAINING) & (slots["inflight"] == 0)] = GONE
