"""The call graph that graph-based scalers plan with: an application's call trees without what cannot be scaled."""

from __future__ import annotations

from pydantic import Field
from scipy.stats import gamma

from imbres_gym.application import Application, Call, Positive
from imbres_gym.config import StrictModel

RARE = 0.05
"""Calls that at most this share of requests make are left out: they cannot move the p95 on their own."""


class CallNode(StrictModel):
    """One call of a microservice, with what follows from it.

    Stages come one after another, calls inside a stage run in parallel.
    """

    microservice: str
    repeat: int = Field(default=1, ge=1)
    """How often its caller makes this call (and all below it), one after another."""
    store_ms: float = Field(default=0.0, ge=0.0)
    """Time of one call in stores, p95 of each operation added up [ms]; stores are not scaled."""
    stages: tuple[tuple[CallNode, ...], ...] = ()


class ClassGraph(StrictModel):
    """What one request class does."""

    tree: CallNode
    calls: dict[str, Positive]
    """Mean calls of each microservice per request, the rare ones included."""


def class_graphs(application: Application, store_shape: float) -> dict[str, ClassGraph]:
    """The call graph of every request class, read from the application's file.

    A live system reads the same from its traces. A call with a chance counts as always made, unless at most 5 % of the
    requests make it. A store that runs in parallel with microservices takes no time of its own.

    Args:
        application: the application.
        store_shape: Gamma shape of the latency of stores (`Effects.store_shape`).
    """
    factor = float(gamma.ppf(0.95, store_shape)) / store_shape
    graphs: dict[str, ClassGraph] = {}
    for name, request in application.request_classes.items():
        calls = application.calls_of_class(name)
        graphs[name] = ClassGraph(tree=_node(application, request.tree, 1.0, factor), calls=calls)
    return graphs


def _node(application: Application, call: Call, chance: float, factor: float) -> CallNode:
    store_ms, stages = 0.0, []
    for stage in call.stages:
        made = [child for child in stage if chance * child.probability > RARE]
        nodes = [
            _node(application, child, chance * child.probability, factor)
            for child in made
            if child.target in application.microservices
        ]
        if nodes:
            stages.append(tuple(nodes))
        else:
            store_ms += max((_store_ms(application, child) * factor for child in made), default=0.0)
    return CallNode(microservice=call.target, repeat=call.repeat, store_ms=store_ms, stages=tuple(stages))


def _store_ms(application: Application, call: Call) -> float:
    """Mean time of a call of a store [ms]; 0 if the caller's own latency has it already."""
    store = application.stores[call.target]
    return call.repeat * store.operations[call.operation] if store.traced else 0.0
