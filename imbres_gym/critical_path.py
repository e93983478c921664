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
    """The critical paths of R requests through M microservices.

    Attributes:
        request_class: (R,) int64.
        total_ms: (R,) float64, duration of the root span.
        on_path: (R, M) bool, whether the path visits the microservice.
        own_ms: (R, M) float64, own latency of the microservice on the path, all its visits together; 0 where there is
            none. What a row lacks to `total_ms` passed between spans: network, queues, calls to stores.
    """

    request_class: NDArray[np.int64]
    total_ms: NDArray[np.float64]
    on_path: NDArray[np.bool_]
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
    shape, size = (len(roots), microservices), len(roots) * microservices
    return CriticalPaths(
        request_class=roots["request_class"].copy(),
        total_ms=1000.0 * (roots["end_s"] - roots["start_s"]),
        on_path=(np.bincount(cell, minlength=size) > 0).reshape(shape),
        own_ms=np.asarray(np.bincount(cell, on["own_ms"], size), np.float64).reshape(shape),
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
    microservices = paths.on_path.shape[1]
    features = np.zeros((microservices, 3))
    if len(paths.total_ms) == 0:
        return features
    features[:, SHARE] = paths.on_path.mean(axis=0)
    weight = np.zeros(microservices)
    for index in np.unique(paths.request_class):
        of_class = paths.request_class == index
        total, own, on = paths.total_ms[of_class], paths.own_ms[of_class], paths.on_path[of_class]
        counts = on.sum(axis=0)
        for m in np.flatnonzero(counts >= MIN_TRACES):
            mine = own[on[:, m], m]
            features[m, RI] += counts[m] * _correlation(mine, total[on[:, m]])
            features[m, CI] += counts[m] * _congestion(mine)
            weight[m] += counts[m]
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
        together = np.concatenate([self._waiting, spans])
        complete = np.isin(together["request"], together["request"][together["parent"] == -1])
        waiting = together[~complete]
        self._waiting = waiting[waiting["end_s"] > horizon]
        self._paths.append((time_s, critical_paths(together[complete], self._microservices)))

    def features(self) -> NDArray[np.float64]:
        """(M, 3) float64 of `path_features` over the window."""
        if not self._paths:
            return np.zeros((self._microservices, 3))
        paths = [paths for _, paths in self._paths]
        return path_features(
            CriticalPaths(
                *(
                    np.concatenate([getattr(one, name) for one in paths])
                    for name in ("request_class", "total_ms", "on_path", "own_ms")
                )
            )
        )
