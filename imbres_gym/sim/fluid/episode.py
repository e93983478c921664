"""Everything about a cluster of the fluid engine that changes in an episode."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import ConnectionPlan
from imbres_gym.sim.fluid.bundle import Bundle
from imbres_gym.sim.fluid.fleet import Fleet, Rows
from imbres_gym.sim.fluid.kinds import Kinds, with_own_waits
from imbres_gym.sim.fluid.step import Tally, Work

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLOT = np.dtype(
    [
        ("id", "i8"),
        ("created", "f8"),  # [ms]
        ("ready_at", "f8"),
        ("excess", "f8"),  # work left over [core-s]
        ("used", "f8"),  # CPU since the last telemetry, without that of idling [core-s]
        ("arrivals", "i8"),  # calls since the last telemetry
        ("microservice", "u4"),
        ("host", "u4"),
        ("life", "i4"),  # as in `imbres_gym.sim.state`
    ]
)


class Topology(NamedTuple):
    """Containers that take requests and their links; made anew when either changes, never written into.

    Attributes:
        fleet: the containers.
        rows: the links.
        connections: (P,) open ones.
        factor: (n,) factor on CPU demand by open connections.
    """

    fleet: Fleet
    rows: Rows
    connections: Ints
    factor: Floats


@dataclass
class FluidEpisode:
    """The state; `clone` is a snapshot. Arrays without a comment are those of `imbres_gym.sim.episode.Episode`."""

    slots: NDArray[np.void]  # of dtype SLOT
    streams: NDArray[np.uint64]
    rng: np.random.Generator
    interference: Floats
    anomaly: Floats | None  # (M, H, 4), see `FluidCluster.inject`; never written into
    wanted: Ints
    proportions: Floats
    ready: Ints
    plan: ConnectionPlan
    placement: Ints
    topology: Topology
    pool_weight: Floats  # (n,) share of a microservice's load that a container gets; never written into
    measured: Topology  # at the last telemetry
    utilisation: Floats  # (H, 4) of the last step, above 1 where a host is overloaded
    kinds: Kinds  # with the groups of bursts of the last step
    work: Work | None  # of the last step, as long as the fleet is the same
    bundle: Bundle | None  # of all arrays; made anew when one is replaced
    next_id: int
    now_s: float
    measured_s: float
    tally: Tally
    steps: int  # since the last telemetry
    latency: Floats
    microservice_p95: Floats
    e2e: Floats
    numbers: Ints  # (2,) of the last traced request and span, see `imbres_gym.sim.fluid.traces`

    @property
    def now_ms(self) -> float:
        """Time since the start of the episode."""
        return self.now_s * 1e3

    def __getstate__(self) -> dict[str, Any]:
        """A pickle has the arrays, not the bundle of them."""
        return {**self.__dict__, "bundle": None}

    def more_slots(self) -> None:
        """Make room for more containers."""
        self.slots = np.concatenate([self.slots, np.zeros_like(self.slots)])
        self.bundle = None

    def clone(self) -> FluidEpisode:
        """A copy that shares what is never written into: between two telemetries that is nearly everything."""
        return replace(
            self,
            slots=self.slots.copy(),
            streams=self.streams.copy(),
            rng=copy.deepcopy(self.rng),
            kinds=with_own_waits(self.kinds),
            utilisation=self.utilisation.copy(),
            work=None,
            bundle=None,
            tally=Tally._make(values.copy() for values in self.tally),
            latency=self.latency.copy(),
            microservice_p95=self.microservice_p95.copy(),
            e2e=self.e2e.copy(),
            numbers=self.numbers.copy(),
        )
