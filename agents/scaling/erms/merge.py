"""Merging a call tree into one virtual microservice, and splitting a latency budget over it again.

Erms (Luo et al., ASPLOS'23; artifact `onlineScaling/erms.py`). Symbols: L = a gamma / n + b is the own p95
of a microservice with load gamma [1/s] on n containers, R the resource share of a container, T a latency target [ms].
To minimise sum R n with L <= T, the budget above the intercepts is shared out in proportion to sqrt(a gamma R): the
*strength* of a microservice. A subtree behaves like one microservice with a strength and an intercept of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from imbres_gym.profiling.graph import CallNode


@dataclass(frozen=True)
class Virtual:
    """A microservice, or what a part of a call tree looks like as one.

    Attributes:
        strength: sqrt(a gamma R); squared and divided by the budget above b, it is the resource that is needed.
        b: latency that no number of containers removes [ms].
    """

    strength: float
    b: float


def sequential(parts: Sequence[Virtual]) -> Virtual:
    """One after another: the optimum of the chain (its KKT conditions) has the sum of the strengths."""
    return Virtual(sum(part.strength for part in parts), sum(part.b for part in parts))


def parallel(parts: Sequence[Virtual]) -> Virtual:
    """At the same time, all with one target: a gamma adds up. With unequal b it is an upper bound of the resource."""
    return Virtual(math.sqrt(sum(part.strength**2 for part in parts)), max(part.b for part in parts))


def repeated(part: Virtual, times: int) -> Virtual:
    """The same call again and again, on the same containers: L is counted `times` times, n once."""
    return Virtual(math.sqrt(times) * part.strength, times * part.b)


@dataclass(frozen=True)
class Merged:
    """A call with all below it.

    Attributes:
        microservice: that is called.
        repeat: how often.
        own: the microservice itself, one call.
        once: one call and all below it.
        stages: the calls of every stage, and the stage as one.
    """

    microservice: str
    repeat: int
    own: Virtual
    once: Virtual
    stages: tuple[tuple[tuple[Merged, ...], Virtual], ...]

    @property
    def total(self) -> Virtual:
        """All repetitions."""
        return repeated(self.once, self.repeat)


def merge(node: CallNode, microservices: Mapping[str, Virtual]) -> Merged:
    """Merge bottom-up; what a call spends in stores counts as an intercept."""
    stages = []
    for stage in node.stages:
        children = tuple(merge(child, microservices) for child in stage)
        stages.append((children, parallel([child.total for child in children])))
    own = microservices[node.microservice]
    once = sequential([own, *(stage for _, stage in stages), Virtual(0.0, node.store_ms)])
    return Merged(node.microservice, node.repeat, own, once, tuple(stages))


def split(merged: Merged, budget_ms: float) -> Iterator[tuple[str, float]]:
    """Share out a budget top-down; every call of a stage gets the stage's whole budget.

    Yields:
        The microservice and the target of its own latency [ms] for every call of the tree. A target below the intercept
        says that the budget cannot be met.
    """
    spare = budget_ms / merged.repeat - merged.once.b

    def share(part: Virtual) -> float:
        return part.b + part.strength / merged.once.strength * spare

    yield merged.microservice, share(merged.own)
    for children, stage in merged.stages:
        for child in children:
            yield from split(child, share(stage))
