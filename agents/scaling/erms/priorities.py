"""Microservices that several request classes share: first come, first served, or with priorities.

Erms (Luo et al., ASPLOS'23; artifact `onlineScaling/erms.py`). Every class shares out the SLA at its own load. With
priorities, the class with the lowest target at a shared microservice is served first, so that its latency depends on
its own load only; the k-th class sees the load of the first k, and targets are computed anew. Without, the lowest
target counts for all, at the load of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.scaling.erms.fit import Pieces
from agents.scaling.erms.targets import Service, latency_targets
from imbres_gym.profiling.graph import CallNode


@dataclass(frozen=True)
class ClassLoad:
    """A request class at its present workload.

    Attributes:
        tree: its call graph.
        calls_rps: calls/s of each microservice that its requests make; those of the tree are > 0.
    """

    tree: CallNode
    calls_rps: Mapping[str, float]


@dataclass(frozen=True)
class Fleet:
    """What is the same for all classes.

    Attributes:
        pieces: model of each microservice at the present interference.
        resource: resource share of one container of each microservice.
        sla_ms: target of every class.
    """

    pieces: Mapping[str, Pieces]
    resource: Mapping[str, float]
    sla_ms: float

    def services(self, load_rps: Mapping[str, float]) -> dict[str, Service]:
        """The microservices that have a load."""
        return {
            name: Service(self.pieces[name], load, self.resource[name]) for name, load in load_rps.items() if load > 0.0
        }


def total_load(classes: Sequence[ClassLoad]) -> dict[str, float]:
    """Calls/s of each microservice over all classes."""
    total: dict[str, float] = {}
    for each in classes:
        for name, load in each.calls_rps.items():
            total[name] = total.get(name, 0.0) + load
    return total


def containers_shared(classes: Sequence[ClassLoad], fleet: Fleet) -> dict[str, int]:
    """Containers without priorities, per microservice that is called."""
    services = fleet.services(total_load(classes))
    lowest: dict[str, float] = {}
    for each in classes:
        for name, target in latency_targets(each.tree, fleet.services(each.calls_rps), fleet.sla_ms).items():
            lowest[name] = min(target, lowest.get(name, math.inf))
    return _with_rare({name: services[name].containers(target) for name, target in lowest.items()}, services)


def containers_prioritised(classes: Sequence[ClassLoad], fleet: Fleet) -> dict[str, int]:
    """Containers with priorities, per microservice that is called; whoever serves must keep to `priority_order`."""
    order = priority_order(classes, fleet)
    services = fleet.services(total_load(classes))
    counts: dict[str, int] = {}
    for index, each in enumerate(classes):
        seen = {
            name: sum(classes[other].calls_rps.get(name, 0.0) for other in ranks[: ranks.index(index) + 1])
            for name, ranks in order.items()
            if index in ranks
        }
        mine = fleet.services(seen)
        for name, target in latency_targets(each.tree, mine, fleet.sla_ms).items():
            counts[name] = max(counts.get(name, 1), mine[name].containers(target))
    return _with_rare(counts, services)


def priority_order(classes: Sequence[ClassLoad], fleet: Fleet) -> dict[str, list[int]]:
    """For each microservice the classes that call it, the one with the lowest target at its own load first.

    A class that calls it too rarely for a target comes last.
    """
    own = [latency_targets(each.tree, fleet.services(each.calls_rps), fleet.sla_ms) for each in classes]
    return {
        name: sorted(
            (index for index, each in enumerate(classes) if each.calls_rps.get(name, 0.0) > 0.0),
            key=lambda index: own[index].get(name, math.inf),
        )
        for name in total_load(classes)
    }


def _with_rare(counts: Mapping[str, int], services: Mapping[str, Service]) -> dict[str, int]:
    """A microservice that is in no tree, as it is called too rarely, has no target and is kept at its knee."""
    return {
        name: counts[name] if name in counts else service.containers(-math.inf) for name, service in services.items()
    }
