"""A small deterministic cluster with simple latency formulas, its scenario and policies: what the tests stand on."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imbres_gym.application import Application, Call, ContainerSize, Microservice, Operation, RequestClass
from imbres_gym.observation import Observation
from imbres_gym.plan import FULL_CONNECTION, ConnectionPlan, Plan, balanced_proportions
from imbres_gym.scenario import DefaultPolicies, Hosts, Scenario
from imbres_gym.sim.interference import ConstantInterference, Level
from imbres_gym.sim.workload import ConstantWorkload
from imbres_gym.telemetry import SPAN, ClusterInfo, Telemetry

HERE = "fake_cluster"


def tiny_scenario(**changes: object) -> Scenario:
    """Three microservices in a chain with a fork on two hosts; policies of this file."""
    microservice = Microservice(operations={"get": Operation(cpu_ms=2.0)})
    tree = Call(call="front/get", stages=[[Call(call="left/get"), Call(call="right/get")]])
    application = Application(
        name="tiny",
        container=ContainerSize(cores=0.5, memory_mb=100.0),
        hop_ms=1.0,
        microservices={"front": microservice, "left": microservice, "right": microservice},
        request_classes={"read": RequestClass(share=1.0, tree=tree)},
    )
    settings: dict[str, object] = {
        "name": "tiny",
        "application": application,
        "hosts": Hosts(count=2, cores=32.0, memory_mb=8000.0),
        "workload": ConstantWorkload(rps=200.0),
        "interference": ConstantInterference(levels=[Level(cpu=0.1), Level(cpu=0.6)]),
        "sla_ms": 20.0,
        "duration": 600.0,
        "initial_utilisation": 0.5,
        "max_replicas": 6,
        "seed": 7,
        "policies": DefaultPolicies(
            load=f"{HERE}:Balanced", connections=f"{HERE}:Everyone", scaling=f"{HERE}:OneMoreEveryTime"
        ),
    }
    return Scenario.model_validate({**settings, **changes})


@dataclass
class State:
    """Everything that changes in an episode of the fake."""

    rng: np.random.Generator
    time_s: float
    next_id: int
    container_id: list[int] = field(default_factory=list)
    microservice: list[int] = field(default_factory=list)
    host: list[int] = field(default_factory=list)
    born_s: list[float] = field(default_factory=list)
    proportions: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    connections: ConnectionPlan = FULL_CONNECTION
    wanted: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    connections_before: int = 0


class FakeCluster:
    """Satisfies `Cluster`: latency grows with the load of a container and with the interference of its host."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.applied: list[Plan] = []
        self.closed = False
        app = scenario.application
        replicas = scenario.replicas_at_start()
        self._info = ClusterInfo(
            microservices=app.microservice_names,
            hosts=tuple(f"host-{i}" for i in range(scenario.hosts.count)),
            classes=app.class_names,
            pairs=app.pairs,
            entries=app.entries,
            called=app.called,
            cores=np.array([app.cores_of(name) for name in app.microservice_names]),
            memory_mb=np.array([app.memory_of(name) for name in app.microservice_names]),
            host_cores=scenario.hosts.cores,
            sla_ms=scenario.sla_ms,
            control_interval_s=scenario.control_interval_s,
            scaling_interval_s=scenario.scaling_interval_s,
            min_replicas=scenario.min_replicas,
            max_replicas=scenario.max_replicas,
            max_containers=scenario.max_replicas * len(app.microservice_names),
            connections_per_container=scenario.connections_per_container,
            startup_s=scenario.startup_s,
            initial_replicas=np.array([replicas[name] for name in app.microservice_names], np.int64),
        )

    @property
    def info(self) -> ClusterInfo:
        return self._info

    def reset(self, seed: int) -> Telemetry:
        self._state = State(np.random.default_rng(seed), time_s=0.0, next_id=100)
        self._scale(self._info.initial_replicas)
        self._state.born_s = [-self._info.startup_s] * len(self._state.born_s)
        self._state.proportions = balanced_proportions(self._ready())
        return self.advance(self._info.control_interval_s)

    def apply(self, plan: Plan) -> None:
        self.applied.append(plan)
        if plan.proportions is not None:
            legal = np.where(self._ready() > 0, plan.proportions, 0.0)
            assert np.all(plan.proportions >= 0.0)
            assert np.allclose(legal.sum(axis=1)[self._ready().any(axis=1)], 1.0)
            self._state.proportions = plan.proportions.copy()
        if plan.connections is not None:
            for links in plan.connections.links.values():
                assert np.all(np.concatenate([links.upstream, links.downstream]) < self._state.next_id)
            self._state.connections = plan.connections
        if plan.replicas is not None:
            self._scale(plan.replicas)

    def advance(self, seconds: float) -> Telemetry:
        state, info = self._state, self._info
        state.time_s += seconds
        ready = self._ready()
        legal = np.where(ready > 0, state.proportions, 0.0)
        sums = legal.sum(axis=1, keepdims=True)
        legal = np.where(sums > 0.0, legal / np.where(sums > 0.0, sums, 1.0), balanced_proportions(ready))
        requests = int(state.rng.poisson(200.0 * seconds))
        load = legal * requests / seconds
        busy = np.minimum(load / np.maximum(ready, 1) / 150.0, 0.95)
        stretch = 1.0 + 2.0 * np.array([0.1, 0.6])
        own = np.where(ready > 0, 2.0 * stretch / (1.0 - busy), 0.0)
        hosts = np.array([state.rng.choice(len(info.hosts), size=requests, p=row) for row in legal])
        of_host = np.array([own[m, hosts[m]] for m in range(len(own))])
        scale = of_host[0] + np.maximum(of_host[1], of_host[2])
        latencies = 1.0 + state.rng.gamma(4.0, 0.25, size=requests) * scale
        return self._measure(seconds, ready, legal, load, own, busy, latencies)

    def snapshot(self) -> object:
        return copy.deepcopy(self._state)

    def restore(self, snapshot: object) -> None:
        assert isinstance(snapshot, State)
        self._state = copy.deepcopy(snapshot)

    def close(self) -> None:
        self.closed = True

    def _measure(
        self,
        seconds: float,
        ready: NDArray[np.int64],
        proportions: NDArray[np.float64],
        load: NDArray[np.float64],
        own: NDArray[np.float64],
        busy: NDArray[np.float64],
        latencies: NDArray[np.float64],
    ) -> Telemetry:
        state, info = self._state, self._info
        microservice, host = np.array(state.microservice), np.array(state.host)
        alive = self._container_ready()
        per_container = load / np.maximum(ready, 1)
        connections = np.array([self._open(i) for i in range(len(info.pairs))], np.int64)
        before, state.connections_before = state.connections_before, int(connections.sum())
        total = np.zeros_like(ready)
        np.add.at(total, (microservice, host), 1)
        shares = np.array([np.outer(proportions[up], proportions[down]) for up, down in info.pairs])
        e2e = np.array([[latencies.mean(), *np.percentile(latencies, [50, 95, 99])]])
        levels = [level.as_row() for level in self.scenario.interference.levels]
        return Telemetry(
            time_s=state.time_s,
            interval_s=seconds,
            container_id=np.array(state.container_id, np.int64),
            container_microservice=microservice,
            container_host=host,
            container_ready=alive,
            container_rps=np.where(alive, per_container[microservice, host], 0.0),
            container_cpu=np.where(alive, busy[microservice, host], 0.0),
            container_age_s=state.time_s - np.minimum(np.array(state.born_s), state.time_s).clip(0.0),
            own_latency_ms=own,
            own_p95_ms=2.0 * own,
            load_rps=load,
            samples=(load * seconds).astype(np.int64),
            age_s=np.zeros_like(own),
            cpu_utilisation=busy,
            microservice_p95_ms=2.0 * own.max(axis=1),
            ready=ready,
            pending=total - ready,
            wanted=state.wanted.copy(),
            interference=np.array(levels),
            e2e_ms=e2e,
            requests=np.array([len(latencies)], np.int64),
            failed=np.zeros(1, np.int64),
            slow=np.array([(latencies > info.sla_ms).sum()], np.int64),
            workload_rps=np.array([len(latencies) / seconds]),
            latencies_ms=(latencies,),
            proportions=proportions,
            connections=connections,
            connection_churn=abs(state.connections_before - before),
            pair_share=shares,
            spans=np.zeros(0, SPAN),
        )

    def _ids(self, microservice: int) -> list[int]:
        pairs = zip(self._state.container_id, self._state.microservice, strict=True)
        return [identity for identity, index in pairs if index == microservice]

    def _open(self, pair: int) -> int:
        links = self._state.connections.links.get(pair)
        upstream, downstream = self._info.pairs[pair]
        return len(self._ids(upstream)) * len(self._ids(downstream)) if links is None else len(links)

    def _container_ready(self) -> NDArray[np.bool_]:
        return np.array(self._state.born_s) + self._info.startup_s <= self._state.time_s

    def _ready(self) -> NDArray[np.int64]:
        counts = np.zeros((len(self._info.microservices), len(self._info.hosts)), np.int64)
        ready = self._container_ready()
        np.add.at(counts, (np.array(self._state.microservice)[ready], np.array(self._state.host)[ready]), 1)
        return counts

    def _scale(self, wanted: NDArray[np.int64]) -> None:
        state = self._state
        state.wanted = wanted.copy()
        for index, count in enumerate(wanted):
            while len(self._ids(index)) < count:
                state.host.append(len(self._ids(index)) % len(self._info.hosts))
                state.container_id.append(state.next_id)
                state.microservice.append(index)
                state.born_s.append(state.time_s)
                state.next_id += 1
            while len(self._ids(index)) > count:
                row = state.container_id.index(self._ids(index)[-1])
                for column in (state.container_id, state.microservice, state.host, state.born_s):
                    column.pop(row)


class Balanced:
    """Load policy: the same load on every container."""

    def reset(self, info: ClusterInfo, seed: int) -> None:
        pass

    def propose(self, observation: Observation) -> NDArray[np.float64]:
        return balanced_proportions(observation["ready"])


class Everyone:
    """Connection policy: the full connection."""

    def reset(self, info: ClusterInfo, seed: int) -> None:
        pass

    def connect(self, observation: Observation, proportions: NDArray[np.float64]) -> ConnectionPlan:
        return FULL_CONNECTION


class OneMoreEveryTime:
    """Scaling policy: asks, at every control interval, for one container more than wanted."""

    def reset(self, info: ClusterInfo, seed: int) -> None:
        pass

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        return observation["wanted"] + 1


class NeedsAnArgument:
    """No policy: cannot be built without arguments."""

    def __init__(self, argument: int) -> None:
        self.argument = argument
