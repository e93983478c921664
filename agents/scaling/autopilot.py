"""A horizontal window scaler after Autopilot (Rzadca et al., EuroSys'20, sections 3.2 and 4).

Google's system is closed; this is its moving-window recommender with parts of its horizontal scaler that the paper
names. Autopilot's half-life of 12 h is for jobs that run for days; here the times fit episodes of minutes. The samples
of the peak decay, too, which in Autopilot those of the average and of the percentiles do; no margin of safety is added.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from agents.containers import cpu_use
from agents.scaling.clock import IntervalClock
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

Floats = NDArray[np.float64]

SMALL_CHANGE = 0.1
"""Relative changes up to this are ignored (estimate: the tolerance of the Kubernetes HPA)."""
GROWTH = 2.0
"""One decision multiplies the containers at most by this (estimate: as the Kubernetes HPA)."""


class AutopilotScaling:
    """As many containers as the decayed peak of the CPU use in a window needs at the target utilisation.

    Every scaling interval the mean CPU use of each microservice [cores] becomes a sample. The recommendation is
    `ceil(max_k(use_k * 2 ** (-age_k / half_life)) / (target * cores))`. Scaling in is deferred: the largest
    recommendation of the last `downscale_s` counts. Changes of 10 % or less are ignored, and growth is at most twofold.

    Args:
        target: CPU utilisation that is aimed at, as a share of the quota (0, 1].
        window_s: age up to which samples count [s]; the paper lets the operator choose (minutes to hours): estimate.
        half_life_s: age at which a sample counts half [s]: estimate.
        downscale_s: time for which scaling in is deferred [s]: estimate, as the Kubernetes HPA.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(
        self,
        *,
        target: float = 0.5,
        window_s: float = 900.0,
        half_life_s: float = 900.0,
        downscale_s: float = 300.0,
    ) -> None:
        if not 0.0 < target <= 1.0:
            raise ConfigError(f"target: {target} must be in (0, 1]")
        for name, seconds in (("window_s", window_s), ("half_life_s", half_life_s)):
            if not 0.0 < seconds < math.inf:
                raise ConfigError(f"{name}: {seconds} must be more than 0 and finite")
        if not 0.0 <= downscale_s < math.inf:
            raise ConfigError(f"downscale_s: {downscale_s} must be at least 0 and finite")
        self._target = target
        self._window_s = window_s
        self._half_life_s = half_life_s
        self._downscale_s = downscale_s

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Forget all samples and recommendations."""
        self._cores = info.cores
        self._bounds = (info.min_replicas, info.max_replicas)
        self._clock = IntervalClock(info.scaling_interval_s)
        self._wanted = info.initial_replicas.astype(np.int64)
        self._interval: list[Floats] = []
        self._samples: deque[tuple[float, Floats]] = deque()
        self._recommendations: deque[tuple[float, NDArray[np.int64]]] = deque()

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        """(M,) int64 wanted containers, within the cluster's bounds."""
        time_s = float(observation["time_s"][0])
        self._interval.append(cpu_use(observation) * observation["ready"].sum(axis=1) * self._cores)
        if self._clock.due(time_s):
            self._samples.append((time_s, np.mean(self._interval, axis=0)))
            self._interval.clear()
            self._forget(self._samples, time_s - self._window_s)
            peak = decayed_peak([(time_s - at, use) for at, use in self._samples], self._half_life_s)
            needed = np.ceil(peak / (self._target * self._cores) - 1e-6).astype(np.int64)
            self._recommendations.append((time_s, needed))
            self._forget(self._recommendations, time_s - self._downscale_s)
            largest = np.max([counts for _, counts in self._recommendations], axis=0)
            self._wanted = np.clip(limited(self._wanted, largest), *self._bounds)
        return self._wanted.copy()

    @staticmethod
    def _forget(
        entries: deque[tuple[float, NDArray[np.float64]]] | deque[tuple[float, NDArray[np.int64]]], before: float
    ) -> None:
        while entries[0][0] < before - 1e-6:
            entries.popleft()


def decayed_peak(samples: list[tuple[float, Floats]], half_life_s: float) -> Floats:
    """Largest sample of each microservice when a sample of age a [s] counts 2 ** (-a / half_life_s) of itself.

    Args:
        samples: (age [s], (M,) use), at least one.
        half_life_s: half-life [s].
    """
    return np.asarray(np.max([use * 2.0 ** (-age_s / half_life_s) for age_s, use in samples], axis=0))


def limited(current: NDArray[np.int64], recommended: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M,) the recommended counts, without small changes and without more than twofold growth."""
    small = np.abs(recommended - current) <= SMALL_CHANGE * current + 1e-9
    return np.where(small, current, np.minimum(recommended, np.floor(GROWTH * current))).astype(np.int64)
