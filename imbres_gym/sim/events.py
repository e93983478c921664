"""The event engine as a `Cluster`: every request is simulated (`docs/event-engine.md`)."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import FULL_CONNECTION, Balancer, Plan, carry_over
from imbres_gym.scenario import Scenario
from imbres_gym.sim import kernel
from imbres_gym.sim.balancing import forget_server, new_balancing
from imbres_gym.sim.clients import NO_CLIENTS, carry_over_clients, connect
from imbres_gym.sim.decisions import legal_anomaly, legal_placement, legal_proportions, legal_replicas
from imbres_gym.sim.episode import Episode, retire
from imbres_gym.sim.info import cluster_info
from imbres_gym.sim.interval import measure
from imbres_gym.sim.lifecycle import Lifecycle, wake
from imbres_gym.sim.load_reports import refresh_weights, take_reports
from imbres_gym.sim.opening import INTERFERENCE_STEP_S, TICK_S, open_episode
from imbres_gym.sim.program import compile_program
from imbres_gym.sim.routing import build_routing, count_ready
from imbres_gym.sim.state import FREE, NEXT_ARRIVAL, NOW, PENDING, RATE, READY, grow, new_state
from imbres_gym.sim.world import build_world, sensitivities
from imbres_gym.telemetry import SPAN, ClusterInfo, Telemetry


class EventCluster:
    """A simulated microservice cluster in which every request is an event.

    Deterministic: the same scenario, seed and plans give the same bits, in another process too.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._program = compile_program(scenario)
        self._info = cluster_info(scenario)
        self._sensitivity = sensitivities(scenario.application)
        self._lifecycle = Lifecycle(self._info, scenario.hosts.memory_mb, self._equip)
        self._episode: Episode | None = None

    @property
    def info(self) -> ClusterInfo:
        """What is fixed for an episode."""
        return self._info

    @property
    def _now(self) -> Episode:
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
        state = new_state(opening.kernel_seed, n_classes, SPAN)
        self._episode = Episode(
            state=state,
            rng=opening.rng,
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
            directory=NO_CLIENTS,
            utilisation=path[0].copy(),
            next_id=0,
            next_tick_s=0.0,
            measured_s=0.0,
            latency=np.zeros((3, *shape)),
            microservice_p95=np.zeros(n_microservices),
            e2e=np.zeros((n_classes, 4)),
            links=np.zeros(0, np.int64),
        )
        self._lifecycle.reconcile(self._now, startup_s=0.0)
        wake(self._now, 0.0)
        self._topology_changed()
        self._now.links = self._now.routing.links
        return self.advance(scenario.control_interval_s)

    def apply(self, plan: Plan) -> None:
        """Put a plan in force at once, in the order that `imbres_gym.cluster.Cluster` says.

        Raises:
            ValueError: a part has the wrong shape or an illegal value.
        """
        episode = self._now
        if plan.proportions is not None:
            episode.proportions = legal_proportions(plan.proportions, episode.ready)
        if plan.connections is not None:
            episode.plan = plan.connections
        if plan.balancer is not None:
            self._balance_by(Balancer(plan.balancer))
        if plan.placement is not None:
            episode.placement = legal_placement(plan.placement, episode.ready.shape)
        if plan.replicas is not None:
            episode.wanted = legal_replicas(plan.replicas, self._info)
            if self._lifecycle.reconcile(episode, self._scenario.startup_s):
                self._topology_changed()
                return
        self._route()

    def inject(self, anomaly: NDArray[np.float64] | None) -> None:
        """As `imbres_gym.cluster.SimulatedCluster.inject` says, for CPU bursts and messages that begin from now on."""
        episode = self._now
        episode.anomaly = legal_anomaly(anomaly, episode.ready.shape)
        world = build_world(self._scenario.effects, self._sensitivity, episode.utilisation, episode.anomaly)
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
        return measure(episode, self._info, self._program, end_s)

    def snapshot(self) -> object:
        """A copy of the whole state; it can be pickled."""
        return copy.deepcopy(self._now)

    def restore(self, snapshot: object) -> None:
        """Go back to a snapshot of this scenario."""
        if not isinstance(snapshot, Episode):
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
        if episode.balancer is Balancer.WEIGHTED_ROUND_ROBIN:
            self._report_load(now_s)
        step = min(int(now_s / INTERFERENCE_STEP_S + 1e-9), len(episode.interference) - 1)
        utilisation = episode.interference[step].copy()
        utilisation[:, 0] += self._own_use(TICK_S)
        world = build_world(self._scenario.effects, self._sensitivity, utilisation, episode.anomaly)
        if np.any(world.speed != episode.world.speed):
            kernel.set_speed(state, episode.world, world.speed, now_s * 1e3)
        episode.world = world
        episode.utilisation = np.minimum(utilisation, 1.0)
        alive = (state.slots["life"] == READY) | (state.slots["life"] == PENDING)
        short = np.count_nonzero(alive) != episode.wanted.sum()
        if short and self._lifecycle.reconcile(episode, self._scenario.startup_s):
            self._topology_changed()
        retire(episode)
        if wake(episode, now_s * 1e3):
            self._topology_changed()

    def _equip(self, episode: Episode, new: NDArray[np.int64], phases: NDArray[np.float64]) -> None:
        """Give new containers their quota, at a phase of its period, and their limits."""
        program, effects, slots = self._program, self._scenario.effects, episode.slots
        microservice = slots["microservice"][new]
        for slot in new.tolist():
            forget_server(episode.state.balancing, slot)
        quota = (program.cores[microservice] - program.idle_cores[microservice]) * program.period_ms
        values = {
            "quota": quota,
            "left": quota,
            "period": program.period_ms,
            "wake_loss": effects.wake_loss_ms,
            "slack": effects.slack_ms,
            "cpus": effects.cpus,
            "period_end": episode.now_ms + phases * program.period_ms,
            "last": episode.now_ms,
            "factor": 1.0,
            "parallelism": program.parallelism[microservice],
            "workers": program.workers[microservice],
            "queue_limit": program.accept_queue[microservice],
        }
        for name, value in values.items():
            slots[name][new] = value

    def _balance_by(self, balancer: Balancer) -> None:
        """Another balancer starts without memory; the one in force goes on."""
        episode = self._now
        if balancer is not episode.balancer:
            episode.balancer = balancer
            episode.directory = NO_CLIENTS
            episode.state = episode.state._replace(balancing=new_balancing())

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

    def _connect_clients(self) -> None:
        """Give the balancer's clients the links that the routes leave them."""
        episode = self._now
        state, routing = episode.state, episode.routing
        routes, directory = connect(routing.routes, state.slots, self._info.pairs, episode.balancer)
        balancing = carry_over_clients(state, episode.directory, directory)
        if episode.balancer is Balancer.WEIGHTED_ROUND_ROBIN:
            refresh_weights(balancing, directory, state.clock[NOW] * 1e-3)
        episode.routing = replace(routing, routes=routes)
        episode.directory = directory
        episode.state = state._replace(balancing=balancing)

    def _report_load(self, now_s: float) -> None:
        """Containers tell their clients about the last tick."""
        state, program = self._now.state, self._program
        kernel.settle(state, state.clock[NOW])
        of_slot = state.slots["microservice"]
        cores = state.slots["tick_used"] * 1e-3 / TICK_S + program.idle_cores[of_slot]
        take_reports(state.balancing, self._now.directory, cores / program.cores[of_slot], TICK_S, now_s)

    def _topology_changed(self) -> None:
        """Carry the load proportions over to the containers that are ready now, and route anew."""
        episode = self._now
        ready = count_ready(episode.state.slots, episode.ready.shape)
        episode.proportions = carry_over(episode.proportions, episode.ready, ready)
        episode.ready = ready
        self._route()

    def _route(self) -> None:
        episode = self._now
        slots = episode.state.slots
        episode.routing = build_routing(slots, self._info.pairs, episode.proportions, episode.ready, episode.plan)
        if episode.balancer is not Balancer.WEIGHTED:
            self._connect_clients()
        slots["factor"] = self._scenario.effects.connection_factor(episode.routing.per_slot)
