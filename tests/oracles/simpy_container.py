"""A container and a host of the SimPy oracle: processor sharing under CFS bandwidth control."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import simpy
from numpy.typing import NDArray

from imbres_gym.application import Microservice
from imbres_gym.sim.effects import Effects

TINY = 1e-6
"""CPU time [core-ms] below which a burst or a quota counts as spent: above the rounding of hours in ms."""


class Host:
    """A host: its utilisation and how much it slows its bursts, both constant within a tick.

    Attributes:
        utilisation: CPU, memory bandwidth, network, LLC [0-1]; the CPU counts the microservices' own use too.
        slowdown: total CPU demand as a multiple of the cores, at least 1.
    """

    def __init__(self, cores: float) -> None:
        self.cores = cores
        self.containers: list[Container] = []
        self.utilisation: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
        self.slowdown = 1.0

    def tick(self, interference: NDArray[np.float64], tick_ms: float) -> None:
        """Take up the interference (4,) of the coming tick and the microservices' own use in the last one."""
        own = 0.0
        for container in self.containers:
            container.settle()
            own += container.tick_used_ms / tick_ms + container.service.idle_cores
            container.tick_used_ms = 0.0
        cpu, memory, network, llc = (float(value) for value in interference)
        demand = cpu + own / self.cores
        self.utilisation = (min(1.0, demand), memory, network, llc)
        self.slowdown = max(1.0, demand)
        for container in self.containers:
            container.wake()


@dataclass
class Burst:
    """A CPU burst in progress.

    Attributes:
        remaining_ms: CPU demand that is left [core-ms].
        done: its end.
        began: when it got CPU for the first time [ms]; NaN before.
    """

    remaining_ms: float
    done: simpy.Event
    began: float = math.nan


class Container:
    """A container: its workers, its accept queue and its CPU.

    Attributes:
        microservice, number: which microservice, and which of its containers.
        connection_factor: multiplier of every CPU demand.
        calls: calls that arrived.
        used_ms, tick_used_ms: CPU used by bursts [core-ms], since the measurement and since the tick began.
    """

    def __init__(
        self,
        env: simpy.Environment,
        host: Host,
        microservice: int,
        number: int,
        service: Microservice,
        quota_cores: float,
        effects: Effects,
        phase_ms: float,
    ) -> None:
        self.env, self.host, self.service = env, host, service
        self.microservice, self.number = microservice, number
        self.quota_cores, self.effects = quota_cores, effects
        self.connection_factor = 1.0
        self.workers = simpy.Resource(env, capacity=service.workers)
        self.calls = 0
        self.used_ms = self.tick_used_ms = 0.0
        self._budget_ms = self._full_budget()
        self._period_end = phase_ms
        self._bursts: list[Burst] = []
        self._settled = 0.0
        self._changed = env.event()
        env.process(self._run())

    def full(self) -> bool:
        """Whether no worker is free and the accept queue has no place."""
        busy = self.workers.count >= self.service.workers
        return busy and len(self.workers.queue) >= self.service.accept_queue

    def burst(self, demand_ms: float) -> Burst:
        """Start a burst of `demand_ms` of CPU."""
        self.settle()
        burst = Burst(demand_ms, self.env.event())
        self._bursts.append(burst)
        self.wake()
        return burst

    def background(self, demand_ms: float) -> None:
        """Spend quota on work that nothing waits for."""
        self.settle()
        self._spend(demand_ms)
        self.wake()

    def lose(self, quota_ms: float) -> None:
        """Lose quota of this period to nothing."""
        self.settle()
        self._budget_ms -= quota_ms
        self.wake()

    def wake(self) -> None:
        """Let the container look again at what comes next."""
        if not self._changed.triggered:
            self._changed.succeed()

    def settle(self) -> None:
        """Account for the CPU time since the last change, end what is done, begin a new period if it is time."""
        elapsed, self._settled = self.env.now - self._settled, self.env.now
        rate = self._rate()
        for burst in self._bursts if rate > 0.0 else []:
            if math.isnan(burst.began):
                burst.began = self.env.now - elapsed
            burst.remaining_ms -= rate * elapsed
            if burst.remaining_ms <= TINY:
                burst.done.succeed()
        self._spend(rate * len(self._bursts) * elapsed)
        self._bursts = [burst for burst in self._bursts if burst.remaining_ms > TINY]
        while self.env.now >= self._period_end - TINY:
            self._period_end += self.effects.period_ms
            self._budget_ms = self._full_budget() + min(self._budget_ms, 0.0)

    def _spend(self, cpu_ms: float) -> None:
        self._budget_ms -= cpu_ms
        self.used_ms += cpu_ms
        self.tick_used_ms += cpu_ms

    def _full_budget(self) -> float:
        return (self.quota_cores - self.service.idle_cores) * self.effects.period_ms

    def _usable(self) -> float:
        """Quota within reach [core-ms]: idle CPUs keep some of it to themselves, together at most half."""
        idle_cpus = max(0.0, self.effects.cpus - len(self._bursts))
        return self._budget_ms - min(self.effects.slack_ms * idle_cpus, 0.5 * self._full_budget())

    def _rate(self) -> float:
        """Cores that each burst has now: none once the quota is spent."""
        if not self._bursts or self._usable() <= TINY:
            return 0.0
        return min(1.0, self.service.parallelism / len(self._bursts)) / self.host.slowdown

    def _run(self) -> Generator[simpy.Event]:
        """Wait for whatever changes next: a burst that ends, the quota, the period, or something from outside."""
        while True:
            self._changed = self.env.event()
            if not self._bursts:
                yield self._changed
            else:
                yield self._changed | self.env.timeout(self._until_next())
            self.settle()

    def _until_next(self) -> float:
        """Time [ms] until a burst ends, the quota is spent or the period ends."""
        until = self._period_end - self.env.now
        rate = self._rate()
        if rate > 0.0:
            until = min(until, self._usable() / (rate * len(self._bursts)))
            until = min(until, min(burst.remaining_ms for burst in self._bursts) / rate)
        return max(until, 0.0)
