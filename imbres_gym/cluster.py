"""The protocol that every backend satisfies: event engine, fluid engine, live cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imbres_gym.measured import Measured
from imbres_gym.plan import Plan
from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import ClusterInfo, Telemetry


class Cluster(Protocol):
    """A microservice cluster that can be measured and acted on."""

    @property
    def info(self) -> ClusterInfo:
        """What is fixed for an episode."""
        ...

    def reset(self, seed: int) -> Telemetry:
        """Start an episode; the first telemetry is that of one control interval under balanced load."""
        ...

    def apply(self, plan: Plan) -> None:
        """Put a plan in force; its parts must be legal (see `imbres_gym.plan`).

        Proportions, connections and balancer first: they are for the containers that there are. Then replicas, by the
        placement of the same plan if it has one.
        """
        ...

    def advance(self, seconds: float) -> Telemetry:
        """Let time pass and measure."""
        ...

    def snapshot(self) -> object:
        """The whole state; restoring it gives the same future, bit for bit."""
        ...

    def restore(self, snapshot: object) -> None:
        """Go back to a snapshot of this cluster's episode."""
        ...

    def close(self) -> None:
        """Release what the cluster holds."""
        ...


class SimulatedCluster(Cluster, Protocol):
    """A simulated cluster, in which things can go wrong on purpose."""

    def inject(self, anomaly: NDArray[np.float64] | None) -> None:
        """Disturb single containers until the next call or `reset`, as an injector beside them does (FIRM, OSDI'20).

        Args:
            anomaly: (M, H, 4) utilisation of CPU, memory bandwidth, network and LLC [0-1] that the containers of a
                microservice on a host suffer on top of the host's, which telemetry does not show; None for none.

        Raises:
            ValueError: wrong shape or values.
        """
        ...


class MeasuresInPlace(ABC):
    """A cluster that can measure without making telemetry, which costs more than a step of a fast one."""

    @property
    @abstractmethod
    def traces(self) -> bool:
        """Whether it traces requests: only telemetry has their spans."""

    @abstractmethod
    def advance_in_place(self, seconds: float) -> Measured:
        """As `Cluster.advance`, for callers that read what is measured before the next interval, and only read it."""


def make_cluster(scenario: Scenario) -> SimulatedCluster:
    """The backend that the scenario's `engine` names."""
    if scenario.engine == "fluid":
        from imbres_gym.sim.fluid.cluster import FluidCluster

        return FluidCluster(scenario)
    from imbres_gym.sim.events import EventCluster

    return EventCluster(scenario)
