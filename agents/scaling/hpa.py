"""The Kubernetes Horizontal Pod Autoscaler (autoscaling/v2) on CPU utilisation, without a `behavior` section.

The rules and their constants are those of the controller's source (kubernetes/kubernetes,
pkg/controller/podautoscaler: replica_calculator.go, horizontal.go, config/v1alpha1/defaults.go).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from agents.scaling.clock import IntervalClock
from imbres_gym.config import ConfigError
from imbres_gym.container_rows import ContainerRows
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

TOLERANCE = 0.1
"""Relative distance from the target within which nothing changes."""
DOWNSCALE_STABILISATION_S = 300.0
"""The largest recommendation of this time counts."""
CPU_INITIALISATION_S = 300.0
"""Age below which a container must have been ready for a whole metrics window to count."""
METRICS_WINDOW_S = 15.0
"""Time over which metrics-server averages CPU use (its default resolution)."""
SCALE_UP_FACTOR, SCALE_UP_MINIMUM = 2, 4
"""One sync may double the containers, or bring them to four."""


class HorizontalPodAutoscaler:
    """Kubernetes' HPA: one independent controller per microservice, a sync at every scaling interval.

    Kubernetes syncs every 15 s: a configuration sets `scaling_interval_s: 15`. In between the last count is repeated.
    CPU use is known of every container in the table, so the rules for missing metrics never apply.

    Args:
        target: CPU utilisation that is aimed at, as a share of the quota (0, 1]. Kubernetes requires a value; 0.5 is
            the target utilisation that Imbres uses (section 6.6).

    Raises:
        ConfigError: the target is out of range.
    """

    def __init__(self, *, target: float = 0.5) -> None:
        if not 0.0 < target <= 1.0:
            raise ConfigError(f"target: {target} must be in (0, 1]")
        self._target = target

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Forget all metrics and recommendations."""
        self._bounds = (info.min_replicas, info.max_replicas)
        self._clock = IntervalClock(info.scaling_interval_s)
        self._wanted = info.initial_replicas.astype(np.int64)
        self._metrics = Metrics()
        self._recommendations: list[deque[tuple[float, int]]] = [deque() for _ in info.microservices]

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        """(M,) int64 wanted containers, within the cluster's bounds."""
        time_s = float(observation["time_s"][0])
        self._metrics.observe(observation, time_s)
        if self._clock.due(time_s):
            for index, (ready, ignored) in enumerate(self._metrics.pods(len(self._wanted), time_s)):
                current = int(observation["wanted"][index])
                # Replicas that no host has room for are in no table; in Kubernetes they are pending pods.
                ignored = max(ignored, current - len(ready))
                desired = desired_replicas(current, ready, ignored, self._target)
                self._wanted[index] = self._stabilise(index, current, desired, time_s)
        return self._wanted.copy()

    def _stabilise(self, index: int, current: int, desired: int, time_s: float) -> int:
        """The largest recent recommendation, growing at a limited rate, within the bounds."""
        recent = self._recommendations[index]
        if not recent:
            recent.append((time_s, current))  # the controller starts with the count that it finds
        recent.append((time_s, desired))
        while recent[0][0] < time_s - DOWNSCALE_STABILISATION_S:
            recent.popleft()
        stable = max(count for _, count in recent)
        at_most = min(max(SCALE_UP_FACTOR * current, SCALE_UP_MINIMUM), self._bounds[1])
        return max(min(stable, at_most), self._bounds[0])


def desired_replicas(current: int, ready: list[float], ignored: int, target: float) -> int:
    """One HPA's recommendation before stabilisation.

    Args:
        current: replicas wanted now.
        ready: CPU use of each container that counts, as a share of its quota.
        ignored: containers that are pending, not ready or too young to have a metric that counts.
        target: utilisation that is aimed at, as a share of the quota.
    """
    if not ready:
        return current
    ratio = _usage_ratio(sum(ready), len(ready), target)
    if ignored == 0 or ratio <= 1.0:
        return current if _within_tolerance(ratio) else math.ceil(ratio * len(ready))
    # Scaling up: containers to come are taken to use nothing, which damps the step.
    count = len(ready) + ignored
    damped = _usage_ratio(sum(ready), count, target)
    if _within_tolerance(damped) or damped < 1.0:
        return current
    return max(math.ceil(damped * count), current)


def _within_tolerance(ratio: float) -> bool:
    return 1.0 - TOLERANCE <= ratio <= 1.0 + TOLERANCE


def _usage_ratio(usage: float, count: int, target: float) -> float:
    """Utilisation over its target; Kubernetes counts in whole per cent and cuts the rest off."""
    return int(round(100.0 * usage / count, 4)) / (100.0 * target)


class Metrics:
    """What metrics-server and the pods' conditions tell: CPU averaged over a window, readiness, age."""

    def __init__(self) -> None:
        # Of the n containers of the last table, in its order:
        self._table: NDArray[np.int64] = np.empty((0, 4), np.int64)
        self._age_s: NDArray[np.float64] = np.empty(0)
        self._ready_since_s: NDArray[np.float64] = np.empty(0)  # NaN: never yet
        self._samples: list[tuple[float, NDArray[np.float64]]] = []  # end and CPU over quota; NaN: not there then
        self._started = False

    def observe(self, observation: Observation, time_s: float) -> None:
        """Add one control interval; containers that are gone are forgotten."""
        used = observation["containers"][:, 0] >= 0
        table, usage = observation["containers"][used], observation["container_usage"][used].astype(np.float64)
        before = ContainerRows(self._table[:, 0]).find(table[:, 0])
        self._samples = [
            (then_s, _carried(cpu, before))
            for then_s, cpu in self._samples
            if then_s > time_s - METRICS_WINDOW_S + 1e-6
        ]
        self._samples.append((time_s, usage[:, 1]))
        # A container that is ready at the first sight of the cluster has been so since its creation; later ones
        # became ready within the interval that ends now.
        since = _carried(self._ready_since_s, before)
        now = np.isnan(since) & (table[:, 3] == 1)
        since[now] = time_s if self._started else time_s - usage[now, 2]
        self._table, self._age_s, self._ready_since_s, self._started = table, usage[:, 2], since, True

    def pods(self, n_microservices: int, time_s: float) -> list[tuple[list[float], int]]:
        """Of each microservice, the mean CPU use of each container that counts, and how many are ignored."""
        samples = np.stack([cpu for _, cpu in self._samples])
        there = ~np.isnan(samples)
        mean = np.where(there, samples, 0.0).sum(axis=0) / there.sum(axis=0)
        whole_window = time_s - self._ready_since_s >= METRICS_WINDOW_S - 1e-6  # false for NaN
        young = self._age_s < CPU_INITIALISATION_S
        counts = ~np.isnan(self._ready_since_s) & ~(young & ~((self._table[:, 3] == 1) & whole_window))
        microservice = self._table[:, 1]
        order = np.argsort(microservice, kind="stable")
        ends = np.cumsum(np.bincount(microservice, minlength=n_microservices))
        rows = np.split(order, ends[:-1])
        return [(mean[mine[counts[mine]]].tolist(), int(np.count_nonzero(~counts[mine]))) for mine in rows]


def _carried(values: NDArray[np.float64], before: NDArray[np.int64]) -> NDArray[np.float64]:
    """Values of the containers that were at the rows `before` of the last table; NaN where that is -1."""
    return np.append(values, np.nan)[before]
