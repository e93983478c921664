"""The Kubernetes Horizontal Pod Autoscaler (autoscaling/v2) on CPU utilisation, without a `behavior` section.

The rules and their constants are those of the controller's source (kubernetes/kubernetes,
pkg/controller/podautoscaler: replica_calculator.go, horizontal.go, config/v1alpha1/defaults.go).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.scaling.clock import IntervalClock
from imbres_gym.config import ConfigError
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
            for index in range(len(self._wanted)):
                current = int(observation["wanted"][index])
                ready, ignored = self._metrics.pods(index, time_s)
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


@dataclass(frozen=True)
class Sample:
    """CPU use of one container at one time.

    Attributes:
        time_s: end of the interval.
        cpu: CPU use as a share of the quota.
    """

    time_s: float
    cpu: float


class Metrics:
    """What metrics-server and the pods' conditions tell: CPU averaged over a window, readiness, age."""

    def __init__(self) -> None:
        self._samples: dict[int, deque[Sample]] = {}
        self._ready_since_s: dict[int, float] = {}
        self._table: NDArray[np.int64] = np.empty((0, 4), np.int64)
        self._age_s: NDArray[np.float32] = np.empty(0, np.float32)
        self._started = False

    def observe(self, observation: Observation, time_s: float) -> None:
        """Add one control interval; containers that are gone are forgotten."""
        used = observation["containers"][:, 0] >= 0
        self._table = observation["containers"][used]
        self._age_s = observation["container_usage"][used, 2]
        present = set(self._table[:, 0].tolist())
        for gone in self._samples.keys() - present:
            del self._samples[gone]
            self._ready_since_s.pop(gone, None)
        cpu = observation["container_usage"][used, 1]
        for row, (container, _, _, ready) in enumerate(self._table.tolist()):
            samples = self._samples.setdefault(container, deque())
            samples.append(Sample(time_s, float(cpu[row])))
            while samples[0].time_s <= time_s - METRICS_WINDOW_S + 1e-6:
                samples.popleft()
            if ready:
                # A container that is ready at the first sight of the cluster has been so since its creation; later
                # ones became ready within the interval that ends now.
                since = time_s if self._started else time_s - float(self._age_s[row])
                self._ready_since_s.setdefault(container, since)
        self._started = True

    def pods(self, microservice: int, time_s: float) -> tuple[list[float], int]:
        """Mean CPU use of each container of a microservice that counts, and how many are ignored."""
        usage: list[float] = []
        ignored = 0
        for row in np.flatnonzero(self._table[:, 1] == microservice):
            container, _, _, ready = self._table[row].tolist()
            since = self._ready_since_s.get(container)
            whole_window = since is not None and time_s - since >= METRICS_WINDOW_S - 1e-6
            young = float(self._age_s[row]) < CPU_INITIALISATION_S
            if since is None or (young and not (ready and whole_window)):
                ignored += 1
            else:
                usage.append(float(np.mean([sample.cpu for sample in self._samples[container]])))
        return usage, ignored
