"""The critical path of traced requests, and what it says about each microservice (FIRM, OSDI '20).

*Critical path* (FIRM Algorithm 1): the calls that the end user waited for. It starts at the root span and, in each
span on it, goes on with the child that returned last, before it with the last one that had returned before that child
began, and so on. Calls that returned after their caller are background work, which nobody waited for.

Two readings of the printed algorithm are taken here. It adds the child that returned last before the earlier ones; the
path is in the order of time. And it adds *every* child that returned before that one began, so that of two parallel
calls of an earlier stage both would count, and the path could be longer than the request; here each step goes to one
child, the latest that the next one can have waited for.

*Features* (FIRM Algorithm 2), per microservice: relative importance RI, the Pearson correlation of its own latency on
the path with the duration of the request; and congestion intensity CI, its 99th percentile over its median.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.telemetry import SPAN

SHARE, RI, CI = range(3)
"""Columns of the features."""

MIN_TRACES = 30
"""Traces of a request class through a microservice below which it has no RI and CI: a p99 of less says nothing."""


@dataclass(frozen=True, eq=False)
class CriticalPaths:
    """The critical paths of R requests through M microservices, and the V visits that they pay to microservices.

    Attributes:
        microservices: M.
        request_class: (R,) int64.
        total_ms: (R,) float64, duration of the root span.
        request: (V,) int64, place of the request in the above; rising.
        microservice: (V,) int64, rising within a request: each is there once.
        own_ms: (V,) float64, own latency of the microservice on the path, all its calls together. What those of a
            request lack to `total_ms` passed between spans: network, queues, calls to stores.
    """

    microservices: int
    request_class: NDArray[np.int64]
    total_ms: NDArray[np.float64]
    request: NDArray[np.int64]
    microservice: NDArray[np.int64]
    own_ms: NDArray[np.float64]


def critical_path_spans(spans: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which spans are on the critical path of their request; a span whose ancestors are not all there is on none.

    Of two children that return at the same instant the one that began earlier counts, then the one with the lower
    number.

    Args:
        spans: (n,) of dtype `SPAN`, any order; the number of each is its own.

    Returns:
        (n,) bool.
    """
    from imbres_gym.critical_path_walk import walk  # needs numba, which takes long to import

    by_number = np.argsort(spans["span"], kind="stable")
    numbers = spans["span"][by_number]
    place = np.minimum(np.searchsorted(numbers, spans["parent"]), max(len(spans) - 1, 0))
    parent = np.where(numbers[place] == spans["parent"], by_number[place], -1) if len(spans) else place
    # Children of one parent in a row, the last to return first.
    order = np.lexsort((spans["span"], spans["start_s"], -spans["end_s"], parent))
    begin = np.searchsorted(parent[order], np.arange(len(spans) + 1))
    roots = np.flatnonzero(spans["parent"] == -1)
    start_s, end_s = np.ascontiguousarray(spans["start_s"]), np.ascontiguousarray(spans["end_s"])
    on_path: NDArray[np.bool_] = walk(roots, begin, order, start_s, end_s)
    return on_path


def critical_paths(spans: NDArray[np.void], microservices: int) -> CriticalPaths:
    """The critical path of every request whose root span is there.

    Args:
        spans: (n,) of dtype `SPAN`.
        microservices: number of them, M.
    """
    on = spans[critical_path_spans(spans)]
    roots = on[on["parent"] == -1]
    roots = roots[np.argsort(roots["request"], kind="stable")]
    cell = np.searchsorted(roots["request"], on["request"]) * microservices + on["microservice"]
    visits, visit = np.unique(cell, return_inverse=True)
    return CriticalPaths(
        microservices=microservices,
        request_class=roots["request_class"].copy(),
        total_ms=1000.0 * (roots["end_s"] - roots["start_s"]),
        request=visits // microservices,
        microservice=visits % microservices,
        own_ms=np.asarray(np.bincount(visit, on["own_ms"], len(visits)), np.float64),
    )


def together(paths: Sequence[CriticalPaths]) -> CriticalPaths:
    """The paths of one or more sets, as one."""
    begin = np.cumsum([0, *(len(one.total_ms) for one in paths)])
    return CriticalPaths(
        microservices=paths[0].microservices,
        request_class=np.concatenate([one.request_class for one in paths]),
        total_ms=np.concatenate([one.total_ms for one in paths]),
        request=np.concatenate([one.request + first for one, first in zip(paths, begin[:-1], strict=True)]),
        microservice=np.concatenate([one.microservice for one in paths]),
        own_ms=np.concatenate([one.own_ms for one in paths]),
    )


def path_features(paths: CriticalPaths) -> NDArray[np.float64]:
    """Share of the requests, RI and CI of each microservice.

    RI and CI are computed per request class, and averaged over those that have at least `MIN_TRACES` paths through the
    microservice, with these numbers as weights: across classes, whose latencies differ, a correlation would only say
    which class calls what.

    Returns:
        (M, 3) float64: share of the requests whose path has the microservice [0-1]; RI [-1, 1], 0 if one of the two
        never varies; CI [>= 1]. 0 in all that nothing is known about.
    """
    count = paths.microservices
    features, weight = np.zeros((count, 3)), np.zeros(count)
    if len(paths.total_ms) == 0:
        return features
    features[:, SHARE] = np.bincount(paths.microservice, minlength=count) / len(paths.total_ms)
    group = paths.request_class[paths.request] * count + paths.microservice
    order = np.argsort(group, kind="stable")
    begin = np.flatnonzero(np.diff(group[order], prepend=-1))
    for first, end in zip(begin, [*begin[1:], len(order)], strict=True):
        if end - first < MIN_TRACES:
            continue
        visits = order[first:end]
        m, own = paths.microservice[visits[0]], paths.own_ms[visits]
        features[m, RI] += len(own) * _correlation(own, paths.total_ms[paths.request[visits]])
        features[m, CI] += len(own) * _congestion(own)
        weight[m] += len(own)
    known = weight > 0.0
    features[known, RI:] /= weight[known, None]
    return features


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's r."""
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt(x @ x) * np.sqrt(y @ y))
    return min(max(float(x @ y) / scale, -1.0), 1.0) if scale > 0.0 else 0.0


def _congestion(x: NDArray[np.float64]) -> float:
    """99th percentile over the median."""
    median, tail = np.percentile(x, [50.0, 99.0])
    return float(tail / median) if median > 0.0 else 1.0


class PathWindow:
    """The critical paths of the last seconds, from the spans of successive intervals.

    A request's spans end in different intervals: they wait until its root span has ended, at most one window.

    Args:
        microservices: number of them.
        window_s: length of the window [s].
    """

    def __init__(self, microservices: int, window_s: float) -> None:
        self._microservices = microservices
        self._window_s = window_s
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._waiting = np.zeros(0, SPAN)
        self._paths: deque[tuple[float, CriticalPaths]] = deque()

    def add(self, spans: NDArray[np.void], time_s: float) -> None:
        """Add the spans (n,) of dtype `SPAN` that ended in the interval which ends at `time_s`."""
        horizon = time_s - self._window_s
        while self._paths and self._paths[0][0] <= horizon + 1e-9:
            self._paths.popleft()
        if len(spans) == 0 and len(self._waiting) == 0:
            return
        found = np.concatenate([self._waiting, spans])
        complete = np.isin(found["request"], found["request"][found["parent"] == -1])
        waiting = found[~complete]
        self._waiting = waiting[waiting["end_s"] > horizon]
        self._paths.append((time_s, critical_paths(found[complete], self._microservices)))

    def features(self) -> NDArray[np.float64]:
        """(M, 3) float64 of `path_features` over the window."""
        if not self._paths:
            return np.zeros((self._microservices, 3))
        return path_features(together([paths for _, paths in self._paths]))
