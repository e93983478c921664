"""The event engine as a `Cluster`: every request is simulated (`docs/event-engine.md`)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import FULL_CONNECTION, Balancer, ConnectionPlan, Plan, balanced_proportions, carry_over
from imbres_gym.scenario import Scenario
from imbres_gym.sim import kernel
from imbres_gym.sim.measure import own_latency
from imbres_gym.sim.program import compile_program
from imbres_gym.sim.routing import Routing, build_routing, count_ready
from imbres_gym.sim.scheduling import place, removal_order
from imbres_gym.sim.state import (
    DRAINING,
    FREE,
    GONE,
    NEXT_ARRIVAL,
    NOW,
    OWN_SAMPLES,
    PENDING,
    RATE,
    READY,
    REQUEST_SAMPLES,
    TRACED,
    State,
    World,
    grow,
    new_state,
)
from imbres_gym.sim.world import build_world, sensitivities
from imbres_gym.telemetry import SPAN, ClusterInfo, Telemetry

TICK_S = 1.0
"""Workload, interference, host load and container life are brought up to date this often [s]."""

INTERFERENCE_STEP_S = 5.0
"""Resolution of the path of interference [s]."""


@dataclass
class _Episode:
    """What changes in an episode besides the compiled state."""

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
    utilisation: NDArray[np.float64]  # (H, 4) in the last tick
    next_id: int
    next_tick_s: float
    measured_s: float  # end of the last telemetry
    latency: NDArray[np.float64]  # (3, M, H) last known mean, p95, and time of the sample [s]
    microservice_p95: NDArray[np.float64]
    e2e: NDArray[np.float64]  # (C, 4) last known
    links: NDArray[np.int64]  # open at the last telemetry


class EventCluster:
    """A simulated microservice cluster in which every request is an event.

    Deterministic: the same scenario, seed and plans give the same bits, in another process too.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._program = compile_program(scenario)
        self._info = cluster_info(scenario)
        self._sensitivity = sensitivities(scenario.application)
        self._episode: _Episode | None = None

    @property
    def info(self) -> ClusterInfo:
        """What is fixed for an episode."""
        return self._info

    @property
    def _now(self) -> _Episode:
        if self._episode is None:
            raise RuntimeError("the cluster has no episode yet; call reset first")
        return self._episode

    def reset(self, seed: int) -> Telemetry:
        """Start an episode at time 0; the telemetry is that of one control interval under balanced load."""
        scenario, info = self._scenario, self._info
        n_microservices, n_hosts, n_classes = len(info.microservices), len(info.hosts), len(info.classes)
        placement_seed, interference_seed, kernel_seed = np.random.SeedSequence(seed).spawn(3)
        steps = int(scenario.duration / INTERFERENCE_STEP_S) + 2
        path = scenario.interference.path(n_hosts, steps, INTERFERENCE_STEP_S, np.random.default_rng(interference_seed))
        shape = (n_microservices, n_hosts)
        state = new_state(int(kernel_seed.generate_state(1, np.uint64)[0]), n_classes, SPAN)
        self._episode = _Episode(
            state=state,
            rng=np.random.default_rng(placement_seed),
            interference=path,
            anomaly=None,
            world=build_world(scenario.effects, self._sensitivity, path[0]),
            wanted=info.initial_replicas.copy(),
            proportions=np.zeros(shape),
            ready=np.zeros(shape, np.int64),
            plan=FULL_CONNECTION,
            balancer=Balancer.WEIGHTED,
            placement=np.zeros(shape, np.int64),
            routing=build_routing(state.slots, info.pairs, np.zeros(shape), np.zeros(shape, np.int64), FULL_CONNECTION),
            utilisation=path[0].copy(),
            next_id=0,
            next_tick_s=0.0,
            measured_s=0.0,
            latency=np.zeros((3, *shape)),
            microservice_p95=np.zeros(n_microservices),
            e2e=np.zeros((n_classes, 4)),
            links=np.zeros(0, np.int64),
        )
        self._reconcile(startup_s=0.0)
        self._wake()
        self._now.links = self._now.routing.links
        return self.advance(scenario.control_interval_s)

    def apply(self, plan: Plan) -> None:
        """Put a plan in force at once, in the order that `imbres_gym.cluster.Cluster` says.

        Raises:
            ValueError: a part has the wrong shape or an illegal value.
        """
        episode = self._now
        if plan.proportions is not None:
            proportions = np.asarray(plan.proportions, np.float64)
            if proportions.shape != episode.proportions.shape or not np.all(proportions >= 0.0):
                raise ValueError(f"proportions must be {episode.proportions.shape} and >= 0")
            legal = np.where(episode.ready > 0, proportions, 0.0)
            if not np.allclose(legal.sum(axis=1)[episode.ready.any(axis=1)], 1.0, atol=1e-6):
                raise ValueError("each row of the proportions must sum to 1 over hosts with ready containers")
            episode.proportions = legal
        if plan.connections is not None:
            episode.plan = plan.connections
        if plan.balancer is not None:
            episode.balancer = Balancer(plan.balancer)
        if plan.placement is not None:
            placement = np.asarray(plan.placement, np.int64)
            if placement.shape != episode.placement.shape or np.any(placement < 0):
                raise ValueError(f"placement must be {episode.placement.shape} and >= 0")
            episode.placement = placement.copy()
        if plan.replicas is not None:
            replicas = np.asarray(plan.replicas, np.int64)
            low, high = self._info.min_replicas, self._info.max_replicas
            if replicas.shape != episode.wanted.shape or np.any(replicas < low) or np.any(replicas > high):
                raise ValueError(f"replicas must be {episode.wanted.size} counts between {low} and {high}")
            episode.wanted = replicas.copy()
            self._reconcile(self._scenario.startup_s)
        self._route()

    def inject(self, anomaly: NDArray[np.float64] | None) -> None:
        """Disturb single containers, as an injector that runs beside them does (iBench; FIRM, OSDI'20).

        Takes effect on CPU bursts and messages that begin from now on, and stays until the next call or `reset`.

        Args:
            anomaly: (M, H, 4) utilisation of CPU, memory bandwidth, network and LLC [0-1] that the containers of a
                microservice on a host suffer on top of the host's, which telemetry does not show; None for none.

        Raises:
            ValueError: wrong shape or values.
        """
        episode = self._now
        shape = (*episode.ready.shape, 4)
        if anomaly is not None:
            anomaly = np.array(anomaly, np.float64)
            if anomaly.shape != shape or not np.all((anomaly >= 0.0) & (anomaly <= 1.0)):
                raise ValueError(f"an anomaly must be {shape} and between 0 and 1")
        episode.anomaly = anomaly
        world = build_world(self._scenario.effects, self._sensitivity, episode.utilisation, anomaly)
        episode.world = world._replace(speed=episode.world.speed)

    def advance(self, seconds: float) -> Telemetry:
        """Simulate `seconds` more and measure them.

        Raises:
            ValueError: not a positive time.
        """
        if seconds <= 0.0:
            raise ValueError(f"cannot advance by {seconds} s")
        episode = self._now
        end_s = episode.measured_s + seconds
        while True:
            until = min(end_s, episode.next_tick_s)
            self._run(until * 1e3)
            if episode.next_tick_s > end_s - 1e-9:
                break
            self._tick()
        self._run(end_s * 1e3)
        return self._measure(end_s)

    def snapshot(self) -> object:
        """A copy of the whole state; it can be pickled."""
        return copy.deepcopy(self._now)

    def restore(self, snapshot: object) -> None:
        """Go back to a snapshot of this scenario."""
        if not isinstance(snapshot, _Episode):
            raise TypeError(f"not a snapshot of an event cluster: {type(snapshot).__name__}")
        self._episode = copy.deepcopy(snapshot)

    def close(self) -> None:
        """Forget the episode."""
        self._episode = None

    def _run(self, until_ms: float) -> None:
        episode = self._now
        while lacking := kernel.GROWS[
            kernel.run(self._program, episode.state, episode.routing.routes, episode.world, until_ms)
        ]:
            episode.state = grow(episode.state, lacking)

    def _tick(self) -> None:
        """Bring the workload, the interference, the load of the hosts and the life of containers up to date."""
        episode = self._now
        now_s = episode.next_tick_s
        episode.next_tick_s = now_s + TICK_S
        state = episode.state
        rate = self._scenario.workload.rate(now_s) * 1e-3
        if rate != state.clock[RATE]:  # without memory: drawing anew is the right Poisson process
            state.clock[RATE] = rate
            draw = kernel.next_arrival(state, now_s * 1e3) if rate > 0.0 else np.inf
            state.clock[NEXT_ARRIVAL] = draw
        step = min(int(now_s / INTERFERENCE_STEP_S + 1e-9), len(episode.interference) - 1)
        utilisation = episode.interference[step].copy()
        utilisation[:, 0] += self._own_use(TICK_S)
        world = build_world(self._scenario.effects, self._sensitivity, utilisation, episode.anomaly)
        if np.any(world.speed != episode.world.speed):
            kernel.set_speed(state, episode.world, world.speed, now_s * 1e3)
        episode.world = world
        episode.utilisation = np.minimum(utilisation, 1.0)
        if np.count_nonzero((state.slots["life"] == READY) | (state.slots["life"] == PENDING)) != episode.wanted.sum():
            self._reconcile(self._scenario.startup_s)
        slots = state.slots
        slots["life"][(slots["life"] == DRAINING) & (slots["inflight"] == 0)] = GONE
        if np.any((slots["life"] == PENDING) & (slots["ready_at"] <= now_s * 1e3 + 1e-6)):
            self._wake()

    def _own_use(self, seconds: float) -> NDArray[np.float64]:
        """(H,) share of each host's cores that the microservices used since the last tick."""
        episode = self._now
        kernel.settle(episode.state, episode.state.clock[NOW])
        slots = episode.state.slots
        alive = slots["life"] != FREE
        idle = self._program.idle_cores[slots["microservice"][alive]]
        used = slots["tick_used"][alive] * 1e-3 / seconds + idle
        slots["tick_used"] = 0.0
        return np.bincount(slots["host"][alive], used, len(self._info.hosts)) / self._info.host_cores

    def _reconcile(self, startup_s: float) -> None:
        """Create or remove containers until there are as many as wanted, or no host has room."""
        episode = self._now
        changed = False
        for m, wanted in enumerate(episode.wanted):
            slots = episode.state.slots
            mine = np.flatnonzero(
                (slots["microservice"] == m) & ((slots["life"] == READY) | (slots["life"] == PENDING))
            )
            for _ in range(int(wanted) - len(mine)):
                if not self._create(m, startup_s):
                    break
            surplus = len(mine) - int(wanted)
            if surplus > 0:
                order = removal_order(
                    slots["life"][mine] == READY,
                    slots["host"][mine].astype(np.int64),
                    slots["created"][mine],
                    slots["id"][mine],
                    self._placement_of(m),
                )
                slots["life"][mine[order[:surplus]]] = DRAINING
                changed = True
        if changed:
            self._topology_changed()

    def _create(self, microservice: int, startup_s: float) -> bool:
        """Place and start one container; False if no host has room."""
        episode, info, program = self._now, self._info, self._program
        slots = episode.state.slots
        n_hosts = len(info.hosts)
        alive = (slots["life"] != FREE) & (slots["life"] != GONE)
        kinds, hosts = slots["microservice"][alive], slots["host"][alive]
        capacity = (info.host_cores, self._scenario.hosts.memory_mb)
        host = place(
            np.bincount(hosts[kinds == microservice], minlength=n_hosts),
            capacity[0] - np.bincount(hosts, info.cores[kinds], n_hosts),
            capacity[1] - np.bincount(hosts, info.memory_mb[kinds], n_hosts),
            (float(info.cores[microservice]), float(info.memory_mb[microservice])),
            capacity,
            episode.rng,
            self._placement_of(microservice),
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
        now_ms = float(episode.state.clock[NOW])
        slot["id"] = episode.next_id
        slot["created"] = now_ms
        slot["ready_at"] = now_ms + startup_s * 1e3
        slot["quota"] = (program.cores[microservice] - program.idle_cores[microservice]) * program.period_ms
        slot["left"] = slot["quota"]
        slot["period"] = program.period_ms
        slot["wake_loss"] = self._scenario.effects.wake_loss_ms
        slot["slack"] = self._scenario.effects.slack_ms
        slot["cpus"] = self._scenario.effects.cpus
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

    def _placement_of(self, microservice: int) -> NDArray[np.int64] | None:
        """(H,) containers wanted per host, None if that is left to the scheduler."""
        wanted = self._now.placement[microservice]
        return wanted if wanted.any() else None

    def _wake(self) -> None:
        """Containers whose start-up is over take requests."""
        episode = self._now
        slots = episode.state.slots
        slots["life"][(slots["life"] == PENDING) & (slots["ready_at"] <= episode.state.clock[NOW] + 1e-6)] = READY
        self._topology_changed()

    def _topology_changed(self) -> None:
        """Carry the load proportions over to the containers that are ready now, and route anew."""
        episode = self._now
        ready = count_ready(episode.state.slots, episode.ready.shape)
        if episode.ready.any():
            episode.proportions = carry_over(episode.proportions, episode.ready, ready)
        else:
            episode.proportions = balanced_proportions(ready)
        episode.ready = ready
        self._route()

    def _route(self) -> None:
        episode, effects = self._now, self._scenario.effects
        slots = episode.state.slots
        episode.routing = build_routing(slots, self._info.pairs, episode.proportions, episode.ready, episode.plan)
        slots["factor"] = (
            1.0 + effects.connection_cost * (episode.routing.per_slot / 500.0) ** effects.connection_exponent
        )

    def _measure(self, end_s: float) -> Telemetry:
        """Telemetry of the interval that ends now; starts the next one."""
        episode, info = self._now, self._info
        state, slots = episode.state, episode.state.slots
        interval_s = end_s - episode.measured_s
        shape = episode.ready.shape
        kernel.settle(state, state.clock[NOW])
        n = int(state.counters[OWN_SAMPLES])
        samples, mean, p95, of_microservice = own_latency(state.own_samples, n, *shape)
        fresh = samples > 0
        episode.latency = np.where(fresh, np.stack([mean, p95, np.full(shape, end_s)]), episode.latency)
        episode.microservice_p95 = np.where(fresh.any(axis=1), of_microservice, episode.microservice_p95)

        ended = state.request_samples[: int(state.counters[REQUEST_SAMPLES])]
        good = ended[ended["failed"] == 0]
        latencies = tuple(good["latency"][good["class_"] == c].copy() for c in range(len(info.classes)))
        requests = np.bincount(ended["class_"], minlength=len(info.classes))
        bad = ended["failed"] == 1
        failed = np.bincount(ended["class_"][bad], minlength=len(info.classes))
        slow = np.bincount(ended["class_"][bad | (ended["latency"] > info.sla_ms)], minlength=len(info.classes))
        for c, values in enumerate(latencies):
            if values.size:
                episode.e2e[c] = [values.mean(), *np.percentile(values, [50.0, 95.0, 99.0])]

        alive = slots["life"] != FREE
        flat = slots["microservice"][alive].astype(np.int64) * shape[1] + slots["host"][alive]
        size = shape[0] * shape[1]
        load = np.bincount(flat, slots["arrivals"][alive], size).reshape(shape) / interval_s
        cores_used = slots["used"] * 1e-3 / interval_s + self._program.idle_cores[slots["microservice"]]
        cores = info.cores[slots["microservice"]]
        quota = np.bincount(flat, cores[alive], size).reshape(shape)
        used = np.bincount(flat, cores_used[alive], size).reshape(shape)

        shown = np.flatnonzero((slots["life"] == READY) | (slots["life"] == PENDING))
        shown = shown[np.argsort(slots["id"][shown])]
        opened = np.setxor1d(episode.routing.links, episode.links, assume_unique=True).size
        telemetry = Telemetry(
            time_s=end_s,
            interval_s=interval_s,
            container_id=slots["id"][shown],
            container_microservice=slots["microservice"][shown].astype(np.int64),
            container_host=slots["host"][shown].astype(np.int64),
            container_ready=slots["life"][shown] == READY,
            container_rps=slots["arrivals"][shown] / interval_s,
            container_cpu=cores_used[shown] / cores[shown],
            container_age_s=end_s - slots["created"][shown] * 1e-3,
            own_latency_ms=episode.latency[0].copy(),
            own_p95_ms=episode.latency[1].copy(),
            load_rps=load,
            samples=samples,
            age_s=end_s - episode.latency[2],
            cpu_utilisation=np.divide(used, quota, out=np.zeros(shape), where=quota > 0.0),
            microservice_p95_ms=episode.microservice_p95.copy(),
            ready=episode.ready.copy(),
            pending=count_ready(slots, shape, PENDING),
            wanted=episode.wanted.copy(),
            interference=episode.utilisation.copy(),
            e2e_ms=episode.e2e.copy(),
            requests=requests,
            failed=failed,
            slow=slow,
            workload_rps=state.arrived / interval_s,
            latencies_ms=latencies,
            proportions=episode.proportions.copy(),
            connections=episode.routing.connections.copy(),
            connection_churn=int(opened),
            pair_share=episode.routing.pair_share.copy(),
            spans=state.traced[: int(state.counters[TRACED])].copy(),
        )
        episode.measured_s = end_s
        episode.links = episode.routing.links
        state.counters[[OWN_SAMPLES, REQUEST_SAMPLES, TRACED]] = 0
        state.arrived[:] = 0
        slots["used"] = 0.0
        slots["arrivals"] = 0
        slots["life"][slots["life"] == GONE] = FREE
        return telemetry


def cluster_info(scenario: Scenario) -> ClusterInfo:
    """What is fixed for an episode of a scenario."""
    app = scenario.application
    names = app.microservice_names
    cores = np.array([app.cores_of(name) for name in names])
    room = scenario.hosts.count * scenario.hosts.cores / float(cores.min())
    start: dict[str, Any] = scenario.replicas_at_start()
    return ClusterInfo(
        microservices=names,
        hosts=tuple(f"host-{h}" for h in range(scenario.hosts.count)),
        classes=app.class_names,
        pairs=app.pairs,
        entries=app.entries,
        cores=cores,
        memory_mb=np.array([app.memory_of(name) for name in names]),
        host_cores=scenario.hosts.cores,
        sla_ms=scenario.sla_ms,
        control_interval_s=scenario.control_interval_s,
        scaling_interval_s=scenario.scaling_interval_s,
        min_replicas=scenario.min_replicas,
        max_replicas=scenario.max_replicas,
        max_containers=int(min(len(names) * scenario.max_replicas, room)),
        connections_per_container=scenario.connections_per_container,
        startup_s=scenario.startup_s,
        initial_replicas=np.array([start[name] for name in names], np.int64),
    )
