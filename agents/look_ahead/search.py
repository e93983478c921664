"""The search for replica counts: which microservices to change, and how far, judged by a model of the cluster."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Predict = Callable[[Ints], float]
"""(M,) replicas -> predicted p95 of the E2E latency [ms]."""


def search_replicas(
    now: Ints, predict: Predict, target_ms: float, step: float, bounds: tuple[int, int], tries: int
) -> Ints:
    """The fewest containers, of those tried, whose predicted latency is within the target.

    Below the target, microservices lose containers, those first whose loss costs the least latency per container;
    above it they gain some, those first that bring the most. Each is tried alone, and then ever more of them together.

    Args:
        now: (M,) containers.
        predict: judges replica counts.
        target_ms: p95 that is aimed at [ms].
        step: share of a microservice's containers that change at once, at least one container, (0, 1].
        bounds: least and largest count of a microservice.
        tries: how often the set of changed microservices is halved, or containers are added to all that matter.

    Returns:
        (M,) int64 containers; `now` where nothing better was found.
    """
    before_ms = predict(now)
    if before_ms <= target_ms:
        return _take_away(now, predict, before_ms, target_ms, step, bounds[0], tries)
    return _add(now, predict, before_ms, target_ms, step, bounds[1], tries)


def _take_away(
    now: Ints, predict: Predict, before_ms: float, target_ms: float, step: float, least: int, tries: int
) -> Ints:
    sizes = np.minimum(_sizes(now, step), now - least)
    cost = _effects(now, -sizes, predict, before_ms)
    order = [int(i) for i in np.argsort(cost, kind="stable") if sizes[i] > 0]
    # Latency rises with every microservice that loses containers: the longest prefix that holds, by halving.
    low, high, best = 0, len(order), now
    for _ in range(tries):
        if low >= high:
            break
        middle = (low + high + 1) // 2
        tried = now.copy()
        tried[order[:middle]] -= sizes[order[:middle]]
        if predict(tried) <= target_ms:
            low, best = middle, tried
        else:
            high = middle - 1
    return best


def _add(now: Ints, predict: Predict, before_ms: float, target_ms: float, step: float, most: int, tries: int) -> Ints:
    best, best_ms = now, before_ms
    for _ in range(tries):
        sizes = np.minimum(_sizes(best, step), most - best)
        cost = _effects(best, sizes, predict, best_ms)
        helpful = [int(i) for i in np.argsort(cost, kind="stable") if sizes[i] > 0 and cost[i] < 0.0]
        if not helpful:
            break
        # The most helpful first; ever more of them until the target is met.
        count, tried, tried_ms = 1, best, best_ms
        while tried_ms > target_ms and count < 2 * len(helpful):
            chosen = helpful[:count]
            tried = best.copy()
            tried[chosen] += sizes[chosen]
            tried_ms = predict(tried)
            count *= 2
        if tried_ms >= best_ms:
            break
        best, best_ms = tried, tried_ms
        if best_ms <= target_ms:
            break
    return best


def _sizes(now: Ints, step: float) -> Ints:
    return np.maximum((now * step).astype(np.int64), 1)


def _effects(now: Ints, change: Ints, predict: Predict, before_ms: float) -> NDArray[np.float64]:
    """(M,) change of latency per container, each microservice changed alone [ms]; 0 where nothing changes."""
    effects = np.zeros(len(now))
    for i in np.flatnonzero(change):
        tried = now.copy()
        tried[i] += change[i]
        effects[i] = (predict(tried) - before_ms) / abs(change[i])
    return effects
