"""An application as flat arrays: what the compiled engine walks instead of call trees."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.application import Application, Call, Operation
from imbres_gym.config import ConfigError
from imbres_gym.scenario import Scenario

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


MAX_PARALLEL_CALLS = 63
"""Calls of one stage: the kernel marks those that are made in the bits of an int64."""


class Program(NamedTuple):
    """Call trees, sizes and limits. A *node* is a call of a tree; stages and children are ranges of flat arrays."""

    node_microservice: Ints  # (nodes,) index, -1 for a store call
    node_store_ms: Floats  # (nodes,) mean latency of a store call
    node_burst_ms: Floats  # (nodes,) mean CPU demand of one burst [core-ms]
    node_shape: Floats  # (nodes,) Gamma shape of the CPU demand
    node_background_ms: Floats  # (nodes,) mean CPU demand that no answer waits for
    node_stage: Ints  # (nodes + 1,) range of its stages
    stage_child: Ints  # (stages + 1,) range of the children of a stage
    child_node: Ints  # (children,) node of each child
    node_repeat: Ints
    node_probability: Floats
    node_pair: Ints  # (nodes,) pair of (caller, callee), -1 at a root and for a store call
    node_traced: Flags  # whether the caller's own latency excludes this call
    class_root: Ints  # (classes,) root node
    class_cdf: Floats  # (classes,) cumulative shares
    class_deadline_ms: Floats
    cores: Floats  # (microservices,) quota of a container
    idle_cores: Floats
    workers: Ints
    accept_queue: Ints
    parallelism: Floats
    hop_ms: float
    client_spans: bool
    period_ms: float
    store_shape: float
    sla_ms: float
    trace_sampling: float


class _Builder:
    """Collects nodes depth first; children of one stage get consecutive places."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.index = {name: i for i, name in enumerate(app.microservices)}
        self.pairs = {pair: i for i, pair in enumerate(app.pairs)}
        self.calls: list[tuple[Call, int]] = []
        self.stages: list[list[list[int]]] = []

    def add(self, call: Call, caller: int) -> int:
        node = len(self.calls)
        self.calls.append((call, caller))
        self.stages.append([])
        me = self.index.get(call.target, -1)
        self.stages[node] = [[self.add(child, me) for child in stage] for stage in call.stages]
        return node

    def store_ms(self, call: Call) -> float:
        store = self.app.stores.get(call.target)
        return store.operations[call.operation] if store else 0.0

    def _operation(self, call: Call) -> Operation | None:
        service = self.app.microservices.get(call.target)
        return service.operations[call.operation] if service else None

    def burst_ms(self, call: Call) -> float:
        operation = self._operation(call)
        return operation.cpu_ms * self.app.span_share / (len(call.stages) + 1) if operation else 0.0

    def background_ms(self, call: Call) -> float:
        operation = self._operation(call)
        return operation.cpu_ms * (1.0 - self.app.span_share) if operation else 0.0

    def shape(self, call: Call, default: float) -> float:
        operation = self._operation(call)
        return (operation.demand_shape if operation else None) or default

    def pair(self, call: Call, caller: int) -> int:
        return self.pairs.get((caller, self.index.get(call.target, -1)), -1)


def compile_program(scenario: Scenario) -> Program:
    """Flatten the application of a scenario.

    Raises:
        ConfigError: a stage has too many calls.
    """
    app = scenario.application
    builder = _Builder(app)
    roots = [builder.add(request.tree, -1) for request in app.request_classes.values()]
    stages = [stage for of_node in builder.stages for stage in of_node]
    calls = builder.calls
    services = list(app.microservices.items())
    widest = max((len(stage) for stage in stages), default=0)
    if widest > MAX_PARALLEL_CALLS:
        raise ConfigError(
            f"application {app.name!r}: a stage has {widest} calls, at most {MAX_PARALLEL_CALLS} can run in parallel"
        )
    return Program(
        node_microservice=np.array([builder.index.get(call.target, -1) for call, _ in calls]),
        node_store_ms=np.array([builder.store_ms(c) for c, _ in calls]),
        node_burst_ms=np.array([builder.burst_ms(c) for c, _ in calls]),
        node_shape=np.array([builder.shape(c, scenario.effects.demand_shape) for c, _ in calls]),
        node_background_ms=np.array([builder.background_ms(c) for c, _ in calls]),
        node_stage=np.cumsum([0, *(len(of_node) for of_node in builder.stages)]),
        stage_child=np.cumsum([0, *(len(stage) for stage in stages)]),
        child_node=np.array([node for stage in stages for node in stage], np.int64),
        node_repeat=np.array([call.repeat for call, _ in calls]),
        node_probability=np.array([call.probability for call, _ in calls]),
        node_pair=np.array([builder.pair(call, caller) for call, caller in calls]),
        node_traced=np.array([app.has_spans(c.target) for c, _ in calls]),
        class_root=np.array(roots),
        class_cdf=np.cumsum([request.share for request in app.request_classes.values()]),
        class_deadline_ms=np.array([request.deadline_ms for request in app.request_classes.values()]),
        cores=np.array([app.cores_of(name) for name, _ in services]),
        idle_cores=np.array([service.idle_cores for _, service in services]),
        workers=np.array([service.workers for _, service in services]),
        accept_queue=np.array([service.accept_queue for _, service in services]),
        parallelism=np.array([float(service.parallelism) for _, service in services]),
        hop_ms=app.hop_ms,
        client_spans=app.client_spans,
        period_ms=scenario.effects.period_ms,
        store_shape=scenario.effects.store_shape,
        sla_ms=scenario.sla_ms,
        trace_sampling=scenario.trace_sampling,
    )
