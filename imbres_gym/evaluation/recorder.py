"""Collects what an episode measures, interval by interval, into arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.evaluation.metrics import Recording
from imbres_gym.imbalance import load_variance
from imbres_gym.percentiles import class_tails
from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import Telemetry

CAPACITY_UTILISATION = 0.5
"""CPU utilisation at which the capacity is stated: Imbres' target (section 6.4)."""


@dataclass(frozen=True)
class Interval:
    """One control interval: what happened, and what the decision before it cost.

    Attributes:
        telemetry: measured.
        capacity_rps: see `capacity_rps`.
        reward: of the step.
        reward_parts: by name.
        decision_ms: wall-clock time of the decision, "total" and of the agent's tiers if it says so.
        metrics: the environment's own scalars.
        illegal_actions: kind -> parts of the action that were illegal, and so repaired or ignored.
    """

    telemetry: Telemetry
    capacity_rps: float
    reward: float
    reward_parts: dict[str, float]
    decision_ms: dict[str, float]
    metrics: dict[str, float]
    illegal_actions: dict[str, int]

    @property
    def containers(self) -> int:
        """Containers, ready or starting."""
        return int(self.telemetry.ready.sum() + self.telemetry.pending.sum())


def capacity_rps(scenario: Scenario, ready: NDArray[np.int64]) -> float:
    """End-user requests/s that the ready containers can take at 50 % CPU: an estimate.

    Of each microservice: containers x (half the quota less the idle CPU) / CPU demand per request; the smallest of them
    is the application's. It leaves out interference and uneven load, so that the true capacity is lower.

    Args:
        scenario: gives quotas and demands.
        ready: (M, H) containers that take requests.
    """
    application = scenario.application
    demand_ms = application.cpu_ms_per_request()
    capacities = []
    for name, count in zip(application.microservice_names, ready.sum(axis=1), strict=True):
        usable = CAPACITY_UTILISATION * application.cores_of(name) - application.microservices[name].idle_cores
        if demand_ms[name] > 0.0:
            capacities.append(float(count) * max(usable, 0.0) * 1000.0 / demand_ms[name])
    return min(capacities, default=0.0)


def class_percentiles(telemetry: Telemetry, percentile: float) -> NDArray[np.float64]:
    """E2E latency of each request class in one interval, (C,); a failed request counts as `FAILED_MS` [ms].

    `Telemetry.e2e_ms` leaves the failed ones out, and so looks best where most requests fail.
    """
    return np.array(class_tails(telemetry.latencies_ms, telemetry.requests, telemetry.failed, percentile))


class Recorder:
    """Keeps every interval of one episode."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._intervals: list[Interval] = []

    def add(
        self, telemetry: Telemetry, info: Mapping[str, Any], reward: float, decision_ms: dict[str, float]
    ) -> Interval:
        """Record one step from the environment's telemetry and `info`; returns what was kept."""
        interval = Interval(
            telemetry=telemetry,
            capacity_rps=capacity_rps(self._scenario, telemetry.ready),
            reward=reward,
            reward_parts={name: float(value) for name, value in info.get("reward_parts", {}).items()},
            decision_ms=decision_ms,
            metrics={name: float(value) for name, value in info["metrics"].items()},
            illegal_actions=illegal_kinds(info.get("illegal_actions", {})),
        )
        self._intervals.append(interval)
        return interval

    def recording(self) -> Recording:
        """The measurements that the metrics need."""
        measured = [interval.telemetry for interval in self._intervals]
        return Recording(
            time_s=np.array([t.time_s for t in measured]),
            interval_s=np.array([t.interval_s for t in measured]),
            containers=np.array([interval.containers for interval in self._intervals], np.float64),
            connections=np.array([t.connections.sum() for t in measured], np.float64),
            connection_churn=np.array([t.connection_churn for t in measured], np.float64),
            load_variance=np.array([load_variance(t) for t in measured]),
            arrivals=np.array([t.workload_rps * t.interval_s for t in measured]),
            requests=np.array([t.requests for t in measured], np.int64),
            failed=np.array([t.failed for t in measured], np.int64),
            slow=np.array([t.slow for t in measured], np.int64),
            decision_ms=np.array([interval.decision_ms["total"] for interval in self._intervals]),
            latencies_ms=tuple(t.latencies_ms for t in measured),
        )

    def series(self) -> dict[str, NDArray[Any]]:
        """One row per control interval (T of them; C request classes, M microservices).

        `time_s`, `interval_s`, `containers`, `connections`, `capacity_rps`, `reward` (T,); `workload_rps`, `requests`,
        `failed`, `slow`, `p50_ms`, `p95_ms`, `p99_ms` (T, C), see `class_percentiles`; `illegal_actions` (T,);
        `replicas` (T, M), ready or starting; `decision_ms/TIER`, `reward/PART`, `metrics/NAME` and `illegal/KIND` (T,),
        NaN where an interval had none.
        """
        measured = [interval.telemetry for interval in self._intervals]
        series: dict[str, NDArray[Any]] = {
            "time_s": np.array([t.time_s for t in measured]),
            "interval_s": np.array([t.interval_s for t in measured]),
            "containers": np.array([interval.containers for interval in self._intervals]),
            "connections": np.array([int(t.connections.sum()) for t in measured]),
            "capacity_rps": np.array([interval.capacity_rps for interval in self._intervals]),
            "reward": np.array([interval.reward for interval in self._intervals]),
            "workload_rps": np.array([t.workload_rps for t in measured]),
            "requests": np.array([t.requests for t in measured]),
            "failed": np.array([t.failed for t in measured]),
            "slow": np.array([t.slow for t in measured]),
            "illegal_actions": np.array([sum(interval.illegal_actions.values()) for interval in self._intervals]),
            "replicas": np.array([(t.ready + t.pending).sum(axis=1) for t in measured]),
        }
        for percentile in (50, 95, 99):
            series[f"p{percentile}_ms"] = np.array([class_percentiles(t, percentile) for t in measured])
        series.update(_columns("decision_ms", [interval.decision_ms for interval in self._intervals]))
        series.update(_columns("reward", [interval.reward_parts for interval in self._intervals]))
        series.update(_columns("metrics", [interval.metrics for interval in self._intervals]))
        series.update(_columns("illegal", [interval.illegal_actions for interval in self._intervals]))
        return series


def illegal_kinds(counts: Mapping[str, int]) -> dict[str, int]:
    """Illegal parts of one step's action: all of `info["illegal_actions"]` but the "total" since the reset."""
    return {kind: int(count) for kind, count in counts.items() if kind != "total"}


def illegal_parts(series: Mapping[str, NDArray[Any]]) -> str:
    """How many parts of an episode's actions were illegal, and of which kind; empty if none was."""
    total = int(series["illegal_actions"].sum())
    if not total:
        return ""
    kinds = {name: int(np.nansum(counts)) for name, counts in series.items() if name.startswith("illegal/")}
    each = ", ".join(f"{name.removeprefix('illegal/')} {count}" for name, count in kinds.items() if count)
    return f"{total} parts of its actions were illegal" + (f" ({each})" if each else "")


def _columns(prefix: str, rows: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    names = sorted({name for row in rows for name in row})
    return {f"{prefix}/{name}": np.array([row.get(name, np.nan) for row in rows]) for name in names}
