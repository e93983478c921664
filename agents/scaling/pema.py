"""PEMA (HPDC'22): practical, efficient autoscaling by monotone reduction, without any profile.

Formulas and constants are those of the paper and of its artifact (rajibhossen/microservice-autoscaling). PEMA sets the
CPU cores of one container per microservice; here its allocation is in containers, kept as real numbers and rounded
where it is deployed. What differs from the artifact besides: exactly N / alpha * slack / threshold microservices shrink
(there each of them is first left out at random, the busier the likelier); the slope of the threshold is fitted anew in
every interval (there once, after ten samples without any change); and a roll-back takes the last safe allocation even
if that is smaller than the one that violates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agents.containers import cpu_use
from agents.scaling.clock import IntervalClock
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

Floats = NDArray[np.float64]

RANGE_RPS = 100.0
"""Width of a workload range with safe allocations and a threshold of its own [requests/s]."""
REGRESSION_SAMPLES = 10
"""Samples of a range from which on its threshold follows the workload."""
REGRESSION_SPREAD = 0.5
"""Share of the range that these must cover, else their slope is noise (estimate: the paper has moving workloads)."""
EXPLORE_SLOPE, EXPLORE_FLOOR = 0.04, 0.01
"""Probability of an upward step: `EXPLORE_SLOPE * slack / (alpha * SLA) + EXPLORE_FLOOR`."""
BUSY, IDLE = 80.0, 20.0
"""Ends of the scale that CPU use is normalised to before it weighs against being chosen."""
THROTTLED = 0.8
"""CPU use, as a share of the quota, from which on a microservice is not reduced (estimate; PEMA asks for throttling in
more than 1 % of the periods, which is not measured here)."""


class PemaScaling:
    """Reduces randomly chosen microservices while the p95 has slack, and rolls back when it has none.

    Every scaling interval, with p95 the worst request class and `slack = max(0, threshold - p95)`:

    - p95 above the threshold: the last safe allocation of the workload range comes back. If that is the one in force,
      it was not safe: the one before it; if there is none, every microservice grows by `beta` (the paper starts from a
      generous allocation and leaves this open).
    - else `N / alpha * slack / threshold` of the N microservices (at most all), busy ones less likely, shrink by
      `(beta / alpha) * min(slack / threshold, alpha)`; sometimes they grow by that instead.

    Workload ranges are centred on the multiples of their width, so that a constant workload is on no edge.

    Args:
        alpha: slack, as a share of the threshold, at which all microservices are reduced (0, 1].
        beta: largest reduction in one step (0, 1).

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(self, *, alpha: float = 0.5, beta: float = 0.3) -> None:
        if not 0.0 < alpha <= 1.0:
            raise ConfigError(f"alpha: {alpha} must be in (0, 1]")
        if not 0.0 < beta < 1.0:
            raise ConfigError(f"beta: {beta} must be between 0 and 1")
        self._alpha, self._beta = alpha, beta

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Start from the scenario's containers, knowing nothing."""
        self._rng = np.random.default_rng(seed)
        self._sla_ms = info.sla_ms
        self._bounds = (info.min_replicas, info.max_replicas)
        self._clock = IntervalClock(info.scaling_interval_s)
        self._allocation: Floats = info.initial_replicas.astype(np.float64)
        self._ranges: dict[int, WorkloadRange] = {}
        self._rates: list[float] = []

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        """(M,) int64 wanted containers, within the cluster's bounds."""
        self._rates.append(float(observation["workload_rps"].sum()))
        if self._clock.due(float(observation["time_s"][0])):
            rate = float(np.mean(self._rates))
            self._rates.clear()
            self._allocation = self._decide(rate, float(observation["window_p95_ms"].max()), cpu_use(observation))
        return np.clip(np.rint(self._allocation), *self._bounds).astype(np.int64)

    def _decide(self, rate: float, p95_ms: float, cpu: Floats) -> Floats:
        number = round(rate / RANGE_RPS)
        workload = self._ranges.setdefault(number, WorkloadRange((number - 0.5) * RANGE_RPS))
        threshold = workload.threshold_ms(rate, self._sla_ms)
        workload.samples.append((rate, p95_ms))
        if p95_ms > threshold:
            safe = workload.roll_back(self._allocation)
            return self._bounded(self._allocation * (1.0 + self._beta)) if safe is None else safe
        workload.remember(self._allocation)
        slack = 1.0 - p95_ms / threshold if threshold > 0.0 else 0.0
        chosen = self._choose(slack, cpu)
        step = reduction(slack, self._alpha, self._beta)
        explore = EXPLORE_SLOPE * (threshold - p95_ms) / (self._alpha * self._sla_ms) + EXPLORE_FLOOR
        up = self._rng.random() < explore
        changed = self._allocation.copy()
        changed[chosen] *= 1.0 + step if up else 1.0 - step
        return self._bounded(changed)

    def _choose(self, slack: float, cpu: Floats) -> NDArray[np.int64]:
        """Microservices to reduce; throttled ones never."""
        candidates = np.flatnonzero(cpu < THROTTLED)
        count = min(how_many(slack, len(cpu), self._alpha), len(candidates))
        if count == 0:
            return np.zeros(0, np.int64)
        weights = choice_weights(cpu[candidates])
        return self._rng.choice(candidates, count, replace=False, p=weights / weights.sum())

    def _bounded(self, allocation: Floats) -> Floats:
        return np.clip(allocation, *self._bounds)


@dataclass
class WorkloadRange:
    """What is known of one range of workload.

    Attributes:
        start_rps: its lower end.
        samples: (workload [requests/s], p95 [ms]) of every interval in it.
        safe: allocations that met the threshold, the last one at the end.
    """

    start_rps: float
    samples: list[tuple[float, float]] = field(default_factory=list)
    safe: list[Floats] = field(default_factory=list)

    def threshold_ms(self, rate: float, sla_ms: float) -> float:
        """The p95 allowed at a workload [ms]: the SLA at the upper end of the range, less by the slope below it."""
        rise = max(0.0, min(_slope(self.samples) * RANGE_RPS, sla_ms))
        return sla_ms - rise * (1.0 - (rate - self.start_rps) / RANGE_RPS)

    def remember(self, allocation: Floats) -> None:
        """This allocation met the threshold."""
        if not self.safe or not np.array_equal(self.safe[-1], allocation):
            self.safe.append(allocation.copy())

    def roll_back(self, allocation: Floats) -> Floats | None:
        """The last safe allocation, when `allocation` is not safe; None if there is none."""
        if self.safe and np.array_equal(self.safe[-1], allocation):
            self.safe.pop()
        return self.safe[-1].copy() if self.safe else None


def _slope(samples: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of p95 over workload [ms s]; 0 with too few samples, or too close ones."""
    if len(samples) < REGRESSION_SAMPLES:
        return 0.0
    rate, p95 = np.array(samples).T
    if np.ptp(rate) < REGRESSION_SPREAD * RANGE_RPS:
        return 0.0
    return float(np.polyfit(rate, p95, 1)[0])


def how_many(slack: float, count: int, alpha: float) -> int:
    """Microservices to reduce at once: floor(N / alpha * slack), at most all.

    Args:
        slack: of the p95 below the threshold, as a share of the threshold [0-1].
        count: number of microservices N.
        alpha: slack at which all are reduced.
    """
    return int(count * min(slack / alpha, 1.0) + 1e-9)


def reduction(slack: float, alpha: float, beta: float) -> float:
    """Share that each chosen microservice loses: (beta / alpha) * min(slack, alpha)."""
    return beta / alpha * min(slack, alpha)


def choice_weights(cpu: Floats) -> Floats:
    """Weights of the random choice: CPU use is normalised to 20..80 between the least and the most used, 100 less that.

    Args:
        cpu: (n,) CPU use as a share of the quota.
    """
    spread = float(np.ptp(cpu))
    normalised = IDLE + (BUSY - IDLE) * (cpu - cpu.min()) / spread if spread > 0.0 else np.full(len(cpu), IDLE)
    return np.asarray(100.0 - normalised)
