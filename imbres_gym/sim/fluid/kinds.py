"""Call trees as the fluid engine walks them: equal subtrees are one *kind* of call, computed once.

A call of the same operation with the same subtree takes the same time wherever it stands in whichever tree; the trees
of an application become one acyclic graph of kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.application import Application, Call
from imbres_gym.scenario import Scenario

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Kinds(NamedTuple):
    """K kinds, callers before the called; stages, children and edges are ranges of flat arrays, as in `Program`."""

    microservice: Ints
    burst_ms: Floats  # mean demand of one burst inside the span [core-ms]
    bursts: Floats  # expected number of bursts: stages in which no call is made do not interrupt
    groups: Floats  # periods in which they begin: 1 at first, what `compose.clump` found in an episode
    background_ms: Floats  # mean demand after the answer
    shape: Ints  # place of its Gamma shape in `shapes`
    shapes: Floats
    second_ms2: Floats  # what it adds to the variance of a period's demand [core-ms^2]; likewise
    untraced_ms: Floats  # expected time of calls that count as its own latency
    untraced_wakes: Floats  # how often it waits for them
    stage: Ints  # (K + 1,)
    child: Ints  # (stages + 1,)
    child_kind: Ints  # -1 for a store
    child_store_ms: Floats
    child_traced: NDArray[np.bool_]
    child_repeat: Ints
    child_probability: Floats
    edge: Ints  # (K + 1,) range of its edges
    edge_kind: Ints  # called kind
    edge_pair: Ints
    edge_calls: Floats  # expected calls per execution
    of_microservice: Ints  # (M + 1,) range in `members`
    members: Ints  # kinds, microservice by microservice
    root: Ints  # (C,) kind of each class
    class_share: Floats  # (C,)
    deadline_ms: Floats  # (C,)
    visits: Floats  # (C, K) expected executions per request
    hop_ms: float
    period_ms: float
    client_spans: bool


class _Builder:
    """Finds the kinds, called ones before their callers."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.index = {name: i for i, name in enumerate(app.microservices)}
        self.known: dict[object, int] = {}
        self.calls: list[Call] = []
        self.stages: list[list[list[tuple[int, Call]]]] = []

    def add(self, call: Call) -> int:
        """The kind of a call, -1 for a store."""
        if call.target not in self.index:
            return -1
        stages = [[(self.add(child), child) for child in stage] for stage in call.stages]
        key = (
            call.call,
            tuple(tuple((k, c.call, c.repeat, c.probability) for k, c in stage) for stage in stages),
        )
        if key not in self.known:
            self.known[key] = len(self.calls)
            self.calls.append(call)
            self.stages.append(stages)
        return self.known[key]


def compile_kinds(scenario: Scenario) -> Kinds:
    """The kinds of a scenario's application."""
    app, effects = scenario.application, scenario.effects
    builder = _Builder(app)
    roots = [builder.add(request.tree) for request in app.request_classes.values()]
    count = len(builder.calls)
    last = count - 1  # callers first: the order is turned round
    calls = builder.calls[::-1]
    stages = [
        [[(last - k if k >= 0 else -1, c) for k, c in stage] for stage in of_kind] for of_kind in builder.stages[::-1]
    ]
    pairs = {pair: i for i, pair in enumerate(app.pairs)}
    operations = [app.microservices[c.target].operations[c.operation] for c in calls]
    microservice = np.array([builder.index[c.target] for c in calls])
    shape = np.array([o.demand_shape or effects.demand_shape for o in operations])
    made = [[1.0 - _prod(1.0 - c.probability for _, c in stage) for stage in of_kind] for of_kind in stages]
    bursts = np.array([1.0 + sum(of_kind) for of_kind in made])
    inside = np.array([o.cpu_ms * app.span_share for o in operations])
    background = np.array([o.cpu_ms * (1.0 - app.span_share) for o in operations])
    burst = inside / bursts
    second = (inside + background) ** 2 + (inside**2 / bursts + background**2) / shape
    untraced = [[_untraced_ms(app, stage) for stage in of_kind] for of_kind in stages]
    flat = [stage for of_kind in stages for stage in of_kind]
    children = [child for stage in flat for child in stage]
    edges = [_edges(of_kind) for of_kind in stages]
    shapes = np.unique(np.append(shape, effects.store_shape))
    order = np.argsort(microservice, kind="stable")
    visits = np.zeros((len(roots), count))
    root = np.array([last - k for k in roots])
    visits[np.arange(len(roots)), root] = 1.0
    for kind in range(count):
        for called, calls_made in edges[kind].items():
            visits[:, called] += visits[:, kind] * calls_made
    return Kinds(
        microservice=microservice,
        burst_ms=burst,
        bursts=bursts,
        groups=np.ones(count),
        background_ms=background,
        shape=np.searchsorted(shapes, shape),
        shapes=shapes,
        second_ms2=second,
        untraced_ms=np.array([sum(ms for ms, _ in of_kind) for of_kind in untraced]),
        untraced_wakes=np.array([sum(wakes for _, wakes in of_kind) for of_kind in untraced]),
        stage=np.cumsum([0, *(len(of_kind) for of_kind in stages)]),
        child=np.cumsum([0, *(len(stage) for stage in flat)]),
        child_kind=np.array([k for k, _ in children], np.int64),
        child_store_ms=np.array([_store_ms(app, c) for _, c in children], np.float64),
        child_traced=np.array([app.has_spans(c.target) for _, c in children], np.bool_),
        child_repeat=np.array([c.repeat for _, c in children], np.int64),
        child_probability=np.array([c.probability for _, c in children], np.float64),
        edge=np.cumsum([0, *(len(of_kind) for of_kind in edges)]),
        edge_kind=np.array([k for of_kind in edges for k in of_kind], np.int64),
        edge_pair=np.array(
            [pairs[(microservice[kind], microservice[k])] for kind, of_kind in enumerate(edges) for k in of_kind],
            np.int64,
        ),
        edge_calls=np.array([n for of_kind in edges for n in of_kind.values()], np.float64),
        of_microservice=np.searchsorted(microservice[order], np.arange(len(app.microservices) + 1)),
        members=order,
        root=root,
        class_share=np.array([request.share for request in app.request_classes.values()]),
        deadline_ms=np.array([request.deadline_ms for request in app.request_classes.values()]),
        visits=visits,
        hop_ms=app.hop_ms,
        period_ms=effects.period_ms,
        client_spans=app.client_spans,
    )


def with_own_waits(kinds: Kinds) -> Kinds:
    """The same kinds, with `groups` and `second_ms2` of their own: a step writes what it has found into them."""
    return kinds._replace(groups=kinds.groups.copy(), second_ms2=kinds.second_ms2.copy())


def _prod(factors: Iterable[float]) -> float:
    product = 1.0
    for factor in factors:
        product *= factor
    return product


def _edges(stages: list[list[tuple[int, Call]]]) -> dict[int, float]:
    """Called kind -> expected calls per execution."""
    calls: dict[int, float] = {}
    for stage in stages:
        for kind, call in stage:
            if kind >= 0:
                calls[kind] = calls.get(kind, 0.0) + call.repeat * call.probability
    return calls


def _store_ms(app: Application, call: Call) -> float:
    store = app.stores.get(call.target)
    return store.operations[call.operation] if store else 0.0


def _untraced_ms(app: Application, stage: list[tuple[int, Call]]) -> tuple[float, float]:
    """Expected time of a stage, and chance that it is waited for, if none of its calls is traced; else nothing."""
    if any(app.has_spans(call.target) for _, call in stage):
        return 0.0, 0.0
    longest = max(_store_ms(app, call) * call.repeat * call.probability for _, call in stage)
    return longest, 1.0 - _prod(1.0 - call.probability for _, call in stage)
