"""The fluid engine as a `Cluster`: flows and response surfaces in place of single requests (`docs/fluid-engine.md`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imbres_gym.cluster import MeasuresInPlace
from imbres_gym.config import ConfigError
from imbres_gym.measured import Measured, new_measured, read, widened
from imbres_gym.plan import FULL_CONNECTION, Balancer, ConnectionPlan, Plan, balanced_proportions, carry_over
from imbres_gym.scenario import Scenario
from imbres_gym.sim.decisions import legal_anomaly, legal_placement, legal_proportions, legal_replicas
from imbres_gym.sim.fluid.bundle import relink
from imbres_gym.sim.fluid.draw import LISTED
from imbres_gym.sim.fluid.engine import Engine, disturb
from imbres_gym.sim.fluid.episode import SLOT, Floats, FluidEpisode, Ints, Topology
from imbres_gym.sim.fluid.fleet import Fleet, connect, muster, open_connections, pool_weights, survey
from imbres_gym.sim.fluid.interval import measure
from imbres_gym.sim.fluid.kinds import compile_kinds, with_own_waits
from imbres_gym.sim.fluid.step import new_tally
from imbres_gym.sim.fluid.traces import new_calls, trace
from imbres_gym.sim.info import cluster_info
from imbres_gym.sim.lifecycle import Lifecycle, wake
from imbres_gym.sim.opening import INTERFERENCE_STEP_S, TICK_S, open_episode
from imbres_gym.sim.random import seeded_streams
from imbres_gym.sim.routing import count_ready
from imbres_gym.sim.state import PENDING, READY
from imbres_gym.telemetry import SPAN, ClusterInfo, Telemetry

REHEARSALS = 3
"""Steps before an episode, from which only is kept how long calls wait: bursts of a call are further apart then."""


class FluidCluster(MeasuresInPlace):
    """A simulated microservice cluster in which load flows; for training and for clusters of thousands of hosts.

    Deterministic: the same scenario, seed and plans give the same bits, in another process too.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._info = cluster_info(scenario)
        self._kinds = compile_kinds(scenario)
        self._lifecycle = Lifecycle(self._info, scenario.hosts.memory_mb, _nothing_more)
        self._engine = Engine(scenario, self._info, self._kinds)
        self._up = np.array([up for up, _ in self._info.pairs], np.int64)
        self._down = np.array([down for _, down in self._info.pairs], np.int64)
        self._episode: FluidEpisode | None = None
        self._measured = new_measured(self._info, LISTED)
        self._calls = new_calls(self._kinds) if self.traces else None  # room, of which nothing stays
        self._spans: list[NDArray[np.void]] = []  # of the last interval
        self._shared: Floats | None = None  # `pool_weight` that the measured `pair_share` is of

    @property
    def info(self) -> ClusterInfo:
        """What is fixed for an episode."""
        return self._info

    @property
    def traces(self) -> bool:
        """Whether requests are traced."""
        return self._scenario.trace_sampling > 0.0

    @property
    def _now(self) -> FluidEpisode:
        if self._episode is None:
            raise RuntimeError("the cluster has no episode yet; call reset first")
        return self._episode

    def reset(self, seed: int) -> Telemetry:
        """Start an episode at time 0; the telemetry is that of one control interval under balanced load."""
        scenario, info = self._scenario, self._info
        n_microservices, n_hosts, n_classes = len(info.microservices), len(info.hosts), len(info.classes)
        opening = open_episode(scenario, seed)
        path = opening.interference
        shape = (n_microservices, n_hosts)
        slots = np.zeros(64, SLOT)
        nobody = self._connected(self._muster(slots, shape), FULL_CONNECTION)
        self._episode = FluidEpisode(
            slots=slots,
            streams=seeded_streams(opening.kernel_seed),
            rng=opening.rng,
            interference=path,
            anomaly=None,
            wanted=info.initial_replicas.copy(),
            proportions=np.zeros(shape),
            ready=np.zeros(shape, np.int64),
            plan=FULL_CONNECTION,
            placement=np.zeros(shape, np.int64),
            topology=nobody,
            pool_weight=np.zeros(0),
            measured=nobody,
            utilisation=path[0].copy(),
            kinds=with_own_waits(self._kinds),
            work=None,
            bundle=None,
            next_id=0,
            now_s=0.0,
            measured_s=0.0,
            tally=new_tally(n_microservices, n_hosts, n_classes),
            steps=0,
            latency=np.zeros((3, *shape)),
            microservice_p95=np.zeros(n_microservices),
            e2e=np.zeros((n_classes, 4)),
            numbers=np.zeros(2, np.int64),
        )
        self._lifecycle.reconcile(self._now, startup_s=0.0)
        wake(self._now, 0.0)
        self._topology_changed()
        self._now.measured = self._now.topology
        for _ in range(REHEARSALS):
            rehearsal = self._now.clone()
            self._engine.step(rehearsal, self._measured, scenario.control_interval_s)
            self._now.kinds, self._now.bundle = rehearsal.kinds, None
        return self.advance(scenario.control_interval_s)

    def apply(self, plan: Plan) -> None:
        """Put a plan in force at once, in the order that `imbres_gym.cluster.Cluster` says.

        Raises:
            ValueError: a part has the wrong shape or an illegal value.
            ConfigError: the plan names a balancer that picks the container of each single call.
        """
        episode, reconnect = self._now, False
        if plan.balancer is not None and Balancer(plan.balancer) is not Balancer.WEIGHTED:
            raise ConfigError(
                f"balancer: {Balancer(plan.balancer).value!r} picks the container of each single call, which the fluid "
                "engine does not have; use engine: events"
            )
        if plan.proportions is not None:
            episode.proportions = legal_proportions(plan.proportions, episode.ready)
        if plan.connections is not None:
            reconnect = bool(plan.connections.links or episode.plan.links) and plan.connections is not episode.plan
            episode.plan = plan.connections
        if plan.placement is not None:
            episode.placement = legal_placement(plan.placement, episode.ready.shape)
        if plan.replicas is not None:
            episode.wanted = legal_replicas(plan.replicas, self._info)
            if self._lifecycle.reconcile(episode, self._scenario.startup_s):
                self._topology_changed()
                return
        if reconnect:
            episode.topology = self._connected(episode.topology.fleet, episode.plan)
            if episode.bundle is not None:
                relink(episode.bundle, episode.topology.rows, episode.topology.factor)
        if plan.proportions is not None:
            episode.pool_weight = pool_weights(episode.topology.fleet, episode.proportions, episode.ready)

    def inject(self, anomaly: Floats | None) -> None:
        """As `imbres_gym.cluster.SimulatedCluster.inject` says, from the next step on."""
        episode = self._now
        episode.anomaly = legal_anomaly(anomaly, episode.ready.shape)
        disturb(episode)

    def advance(self, seconds: float) -> Telemetry:
        """Simulate `seconds` more and measure them.

        Raises:
            ValueError: not a positive time.
        """
        measured = self.advance_in_place(seconds)
        return read(measured, np.concatenate([np.zeros(0, SPAN), *self._spans]))

    def advance_in_place(self, seconds: float) -> Measured:
        """As `advance`, into arrays that the next interval overwrites, without traces.

        Raises:
            ValueError: not a positive time.
        """
        if seconds <= 0.0:
            raise ValueError(f"cannot advance by {seconds} s")
        episode = self._now
        end_s, self._spans = episode.measured_s + seconds, []
        while episode.now_s < end_s - 1e-9:
            first_ready_ms = self._live()
            until_s = min(end_s, self._next_stop(first_ready_ms))
            self._engine.step(episode, self._measured, until_s - episode.now_s)
            if self.traces:
                self._trace(until_s - episode.now_s)
            episode.now_s = until_s
        episode.now_s = end_s
        room = episode.tally.latencies.shape[1]
        if room > self._measured.latencies_ms.shape[1]:
            wider = widened(self._measured.latencies_ms, room)
            self._measured, episode.bundle = self._measured._replace(latencies_ms=wider), None
            self._engine.prepare(episode, self._measured)
        rerouted = self._shared is not episode.pool_weight
        measure(episode, self._info.cores, self._up, self._down, self._measured, rerouted)
        self._shared = episode.pool_weight
        return self._measured

    def snapshot(self) -> object:
        """A copy of the whole state; it can be pickled."""
        return self._now.clone()

    def restore(self, snapshot: object) -> None:
        """Go back to a snapshot of this scenario."""
        if not isinstance(snapshot, FluidEpisode):
            raise TypeError(f"not a snapshot of a fluid cluster: {type(snapshot).__name__}")
        self._episode = snapshot.clone()

    def clone(self) -> FluidCluster:
        """A cluster of its own in the same state, for a look ahead; costs little more than a step."""
        other = object.__new__(FluidCluster)
        other.__dict__.update(self.__dict__)
        other._episode = self._now.clone()
        other._measured, other._shared = new_measured(self._info, LISTED), None
        return other

    def assume(self, ids: Ints, microservice: Ints, host: Ints, ready: NDArray[np.bool_], background: Floats) -> None:
        """Replace all containers and the best-effort jobs of the episode: a model of a cluster that was observed.

        Nobody has work left over, load is balanced over full connections, and as many containers are wanted as there
        are. The time, and what was measured before, stay.

        Args:
            ids: (n,) of the containers, unique.
            microservice: (n,) index.
            host: (n,) index.
            ready: (n,) whether they take requests; the others will after the scenario's start-up time.
            background: (H, 4) utilisation by best-effort jobs from now on [0-1].
        """
        episode, count = self._now, len(ids)
        slots = np.zeros(count, SLOT)
        slots["id"], slots["microservice"], slots["host"] = ids, microservice, host
        slots["created"] = episode.now_ms
        slots["ready_at"] = episode.now_ms + np.where(ready, 0.0, self._scenario.startup_s * 1e3)
        slots["life"] = np.where(ready, READY, PENDING)
        shape = episode.ready.shape
        episode.slots = slots
        episode.next_id = int(ids.max(initial=-1)) + 1
        episode.wanted = np.bincount(microservice, minlength=shape[0])
        episode.interference = background[None].copy()
        episode.plan = FULL_CONNECTION
        episode.placement = np.zeros(shape, np.int64)
        episode.ready = count_ready(slots, shape)
        episode.proportions = balanced_proportions(episode.ready)
        self._route()
        episode.measured = episode.topology

    def expected(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """What the last step expected of each ready container, before chance.

        Returns:
            (n,) ids, (n,) calls/s, (n,) CPU demand as a share of the quota.
        """
        if self._now.work is None:
            raise RuntimeError("no step of these containers yet")
        stations = self._now.work.stations
        return self._now.topology.fleet.id, stations.calls, stations.load

    def close(self) -> None:
        """Forget the episode."""
        self._episode = None

    def _trace(self, seconds: float) -> None:
        """Trace requests of the step that began now."""
        episode, sampling = self._now, self._scenario.trace_sampling
        self._spans.append(trace(episode.bundle, sampling, episode.now_s, seconds, episode.numbers, self._calls))

    def _next_stop(self, first_ready_ms: float) -> float:
        """When the world changes next: interference does, or the first container that starts is ready."""
        now_s = self._now.now_s
        stop_s = (math.floor(now_s / INTERFERENCE_STEP_S + 1e-9) + 1.0) * INTERFERENCE_STEP_S
        if first_ready_ms < math.inf:
            tick = math.ceil(first_ready_ms * 1e-3 / TICK_S - 1e-9) * TICK_S
            if tick > now_s + 1e-9:
                stop_s = min(stop_s, tick)
        return stop_s

    def _live(self) -> float:
        """Bring the life of containers up to date; returns when the first that starts is ready [ms]."""
        episode = self._now
        surplus, first_ready_ms = survey(episode.slots, episode.wanted)
        if surplus != 0:
            if self._lifecycle.reconcile(episode, self._scenario.startup_s):
                self._topology_changed()
            _, first_ready_ms = survey(episode.slots, episode.wanted)
        if first_ready_ms < math.inf and wake(episode, episode.now_ms):
            self._topology_changed()
            _, first_ready_ms = survey(episode.slots, episode.wanted)
        return first_ready_ms  # type: ignore[no-any-return]

    def _topology_changed(self) -> None:
        """Carry the load proportions over to the containers that are ready now, and route anew."""
        episode = self._now
        ready = count_ready(episode.slots, episode.ready.shape)
        episode.proportions = carry_over(episode.proportions, episode.ready, ready)
        episode.ready = ready
        self._route()

    def _route(self) -> None:
        episode = self._now
        episode.topology = self._connected(self._muster(episode.slots, episode.ready.shape), episode.plan)
        episode.pool_weight = pool_weights(episode.topology.fleet, episode.proportions, episode.ready)
        episode.work = episode.bundle = None

    def _muster(self, slots: NDArray[np.void], shape: tuple[int, int]) -> Fleet:
        return muster(slots, shape, self._kinds.members, self._kinds.of_microservice)

    def _connected(self, fleet: Fleet, plan: ConnectionPlan) -> Topology:
        rows = connect(fleet, self._up, self._down, plan)
        connections, degree = open_connections(fleet, rows, self._up, self._down)
        return Topology(
            fleet=fleet,
            rows=rows,
            connections=connections,
            factor=self._scenario.effects.connection_factor(degree),
        )


def _nothing_more(episode: FluidEpisode, slots: Ints, phases: Floats) -> None:
    """Containers of the fluid engine have nothing besides what every container has."""
