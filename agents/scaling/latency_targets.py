"""Latency targets in proportion to weights, as GrandSLAm and Rhythm set them, and the statistics they are made of."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.scaling.erms.fit import Pieces
from agents.scaling.profiled import ProfiledScaling
from imbres_gym.observation import Observation
from imbres_gym.profiling.graph import CallNode
from imbres_gym.profiling.profile import Profile

LEAST_LEVELS = 3
"""Load levels that statistics have at least (estimate: with two, correlation says nothing)."""


def weighted_targets(tree: CallNode, weights: Mapping[str, float], sla_ms: float) -> dict[str, float]:
    """Own-latency target of each microservice: T_i = SLA w_i / sum over the path of w, the smallest over its paths.

    A path takes one call of every stage: the calls that could make up the critical path. Time in stores is taken off
    the SLA first, as much as the path with most of it has.

    Args:
        tree: call graph of one request class.
        weights: of one call of each microservice, > 0, in any unit.
        sla_ms: target of the class.

    Returns:
        Target per microservice of the tree [ms]; along any path they sum to at most the SLA.
    """
    budget = max(sla_ms - _heaviest(tree, None), 0.0)
    targets: dict[str, float] = {}

    def visit(node: CallNode, through: float, times: int) -> None:
        """Set the targets from a call on; its heaviest path weighs `through`, its caller is called `times` times."""
        target = budget * weights[node.microservice] / through
        targets[node.microservice] = min(target, targets.get(node.microservice, math.inf))
        times *= node.repeat
        for stage in node.stages:
            heaviest = [_heaviest(child, weights) for child in stage]
            for child, weight in zip(stage, heaviest, strict=True):
                visit(child, through - times * (max(heaviest) - weight), times)

    visit(tree, _heaviest(tree, weights), 1)
    return targets


def _heaviest(node: CallNode, weights: Mapping[str, float] | None) -> float:
    """Weight of the heaviest path from a call on; without weights its time in stores [ms]."""
    own = node.store_ms if weights is None else weights[node.microservice]
    below = sum(max(_heaviest(child, weights) for child in stage) for stage in node.stages)
    return node.repeat * (own + below)


@dataclass(frozen=True)
class OfflineStatistics:
    """Latencies per load level at mean interference, as far as the SLA is met; m levels.

    Attributes:
        mean_ms: (m, M) mean own latency of each microservice.
        tail_ms: (m,) p95 of the E2E latency of one request class.
    """

    mean_ms: NDArray[np.float64]
    tail_ms: NDArray[np.float64]


def offline_statistics(profile: Profile, class_index: int, sla_ms: float) -> OfflineStatistics:
    """Statistics for one request class, at the profiled interference nearest to its mean.

    The load levels go up to the largest at which all classes meet the SLA, as in Rhythm, whose loads are shares of
    that maximum; but there are at least three. Beyond, latencies say how long was measured, and which microservice
    saturates first.
    """
    points = profile.points
    load, grid = np.array(points.load), np.array(points.grid)
    distance = np.hypot(*(grid - grid.mean(axis=0)).T)
    central = distance <= distance.min() + 1e-9
    of_level = [central & (load == level) for level in np.unique(load)]
    tail = np.array([np.array(points.e2e_p95_ms)[chosen].mean(axis=0) for chosen in of_level])
    mean = np.array([np.array(points.mean_ms)[chosen].mean(axis=0) for chosen in of_level])
    count = max(LEAST_LEVELS, int((tail.max(axis=1) <= sla_ms).sum()))
    return OfflineStatistics(mean[:count], tail[:count, class_index])


class WeightedTargetScaling(ProfiledScaling):
    """Scales to fixed latency targets, each class's SLA shared out in proportion to offline weights.

    The targets are computed once; the containers that meet them follow from the profile at its mean interference,
    whatever the present one: such scalers do not know interference.
    """

    @abstractmethod
    def _weights(self, statistics: OfflineStatistics) -> NDArray[np.float64]:
        """(M,) weight of each microservice for one request class, > 0, in any unit."""

    def _prepare(self, profile: Profile) -> None:
        info = self._info
        C, M = float(np.mean(profile.points.cpu)), float(np.mean(profile.points.memory_bandwidth))
        self._pieces: dict[str, Pieces] = {name: model.at(C, M) for name, model in self._models.items()}
        self._targets: list[dict[str, float]] = []
        for graph, name in zip(self._graphs, info.classes, strict=True):
            statistics = offline_statistics(profile, profile.classes.index(name), info.sla_ms)
            weights = self._weights(statistics)
            of = dict(zip(info.microservices, weights.tolist(), strict=True))
            self._targets.append(weighted_targets(graph.tree, of, info.sla_ms))

    def _plan(self, observation: Observation, rates: NDArray[np.float64]) -> Mapping[str, int]:
        load_rps: dict[str, float] = {}
        target_ms: dict[str, float] = {}
        for index in np.flatnonzero(rates > 0.0).tolist():
            for name, calls in self._calls_rps(index, float(rates[index])).items():
                load_rps[name] = load_rps.get(name, 0.0) + calls
                target = self._targets[index].get(name, math.inf)
                target_ms[name] = min(target, target_ms.get(name, math.inf))
        return {name: self._containers(name, load, target_ms[name]) for name, load in load_rps.items()}

    def _containers(self, name: str, load_rps: float, target_ms: float) -> int:
        """Fewest containers whose profiled latency meets the target; without one, those that stay at the knee."""
        load = self._pieces[name].load_at(target_ms if math.isfinite(target_ms) else -math.inf)
        return max(1, math.ceil(load_rps / load - 1e-9))
