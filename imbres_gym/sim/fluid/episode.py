"""Everything about a cluster of the fluid engine that changes in an episode."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import ConnectionPlan
from imbres_gym.sim.fluid.fleet import Fleet, Rows
from imbres_gym.sim.fluid.kinds import Kinds
from imbres_gym.sim.fluid.station import Stations
from imbres_gym.sim.state import World

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


@dataclass(frozen=True)
class Topology:
    """Containers that take requests and their links; made anew when either changes, never written into.

    Attributes:
        fleet: the containers.
        rows: the links.
        pool_weight: (n,) share of a microservice's load that a container gets by the load proportions.
        connections: (P,) open ones.
        factor: (n,) factor on CPU demand by open connections.
    """

    fleet: Fleet
    rows: Rows
    pool_weight: Floats
    connections: Ints
    factor: Floats


@dataclass
class Interval:
    """What has happened since the last telemetry (M microservices, H hosts, C request classes).

    Attributes:
        arrived, ended, failed, slow: (C,) requests.
        latencies: (C,) lists of sorted latencies, one array for each step [ms].
        samples: (M, H) spans that ended.
        mean, p95: (M, H) sums over spans of the own latency of their step [ms].
        microservice_p95: (M,) likewise.
    """

    arrived: Ints
    ended: Ints
    failed: Ints
    slow: Ints
    latencies: list[list[Floats]]
    samples: Ints
    mean: Floats
    p95: Floats
    microservice_p95: Floats


def new_interval(n_microservices: int, n_hosts: int, n_classes: int) -> Interval:
    """An interval in which nothing has happened."""
    shape = (n_microservices, n_hosts)
    return Interval(
        arrived=np.zeros(n_classes, np.int64),
        ended=np.zeros(n_classes, np.int64),
        failed=np.zeros(n_classes, np.int64),
        slow=np.zeros(n_classes, np.int64),
        latencies=[[] for _ in range(n_classes)],
        samples=np.zeros(shape, np.int64),
        mean=np.zeros(shape),
        p95=np.zeros(shape),
        microservice_p95=np.zeros(n_microservices),
    )


@dataclass
class FluidEpisode:
    """The state; `clone` is a snapshot. Arrays without a comment are those of `imbres_gym.sim.episode.Episode`."""

    slots: NDArray[np.void]  # of dtype SLOT
    streams: NDArray[np.uint64]
    rng: np.random.Generator
    interference: Floats
    world: World
    wanted: Ints
    proportions: Floats
    ready: Ints
    plan: ConnectionPlan
    placement: Ints
    topology: Topology
    measured: Topology  # at the last telemetry
    pair_share: Floats | None  # (P, H, H), likewise
    utilisation: Floats  # (H, 4) of the last step, at most 1
    kinds: Kinds  # with the groups of bursts of the last step
    expected: Stations | None  # how containers fared in the last step
    next_id: int
    now_s: float
    measured_s: float
    interval: Interval
    latency: Floats
    microservice_p95: Floats
    e2e: Floats

    @property
    def now_ms(self) -> float:
        """Time since the start of the episode."""
        return self.now_s * 1e3

    def more_slots(self) -> None:
        """Make room for more containers."""
        self.slots = np.concatenate([self.slots, np.zeros_like(self.slots)])

    def clone(self) -> FluidEpisode:
        """A copy that shares what is never written into: between two telemetries that is nearly everything."""
        return replace(
            self,
            slots=self.slots.copy(),
            streams=self.streams.copy(),
            rng=copy.deepcopy(self.rng),
            interval=copy.deepcopy(self.interval),
            latency=self.latency.copy(),
            microservice_p95=self.microservice_p95.copy(),
            e2e=self.e2e.copy(),
        )
