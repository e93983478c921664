"""Erms' latency targets of one request class: which piece of each model counts, and how the SLA is shared out.

Erms (Luo et al., ASPLOS'23; artifact `onlineScaling/erms.py`). Symbols as in `merge`; sigma is the load per
container at the knee.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from agents.scaling.erms.fit import Line, Pieces
from agents.scaling.erms.merge import Virtual, merge, split
from imbres_gym.profiling.graph import CallNode


@dataclass(frozen=True)
class Service:
    """One microservice as the targets see it.

    Attributes:
        pieces: its model at the present interference.
        load_rps: calls/s that all its containers get together, > 0.
        resource: resource share of one container, in any unit, > 0.
    """

    pieces: Pieces
    load_rps: float
    resource: float

    def virtual(self, line: Line) -> Virtual:
        """With one piece of its model."""
        return Virtual(math.sqrt(line.a * self.load_rps * self.resource), line.b)

    def containers(self, target_ms: float) -> int:
        """Fewest containers that meet a target, at least 1: n = ceil(a gamma / (T - b))."""
        return max(1, math.ceil(self.load_rps / self.pieces.load_at(target_ms) - 1e-9))


def latency_targets(tree: CallNode, services: Mapping[str, Service], sla_ms: float) -> dict[str, float]:
    """The target of every microservice's own p95 so that no path exceeds the SLA with the least resources.

    All models start with the piece after the knee. A microservice whose target allows no load beyond its knee takes
    the piece before it, for good, and the targets are computed again, until that happens no more. The artifact stops
    after two rounds, which can leave microservices on a piece that does not hold where their target lies. One that is
    called in several places gets its smallest target.

    Args:
        tree: call graph of the request class.
        services: every microservice of the tree.
        sla_ms: target of the class.

    Returns:
        Target per microservice [ms]. If even all intercepts before the knee exceed the SLA, targets are below them.
    """
    before: set[str] = set()
    while True:
        targets = _share_out(tree, services, before, sla_ms)
        too_low = {name for name, target in targets.items() if _below_knee(services[name].pieces, target)}
        if too_low <= before:
            return targets
        before |= too_low


def _below_knee(pieces: Pieces, target_ms: float) -> bool:
    return (target_ms - pieces.after.b) / pieces.after.a <= pieces.sigma


def _share_out(tree: CallNode, services: Mapping[str, Service], before: set[str], sla_ms: float) -> dict[str, float]:
    """The KKT targets with given pieces: T = b + sqrt(a gamma R) / sum sqrt(a gamma R) * (SLA - sum b) on a chain."""
    lines = {name: s.pieces.before if name in before else s.pieces.after for name, s in services.items()}
    merged = merge(tree, {name: service.virtual(lines[name]) for name, service in services.items()})
    targets: dict[str, float] = {}
    for name, target in split(merged, sla_ms):
        targets[name] = min(target, targets.get(name, math.inf))
    return targets
