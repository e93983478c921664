"""Collects what an episode measures, interval by interval, into arrays."""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True)
class _Row:
    """What is kept of an interval; arrays over containers or hosts are not, which fill the memory in large clusters.

    Attributes:
        series: name -> value or array, of those that every interval has; see `Recorder.series`.
        scalars: of those that an interval may lack.
        connection_churn, load_variance, arrivals, latencies_ms: see `Recording`.
    """

    series: dict[str, Any]
    scalars: dict[str, float]
    connection_churn: int
    load_variance: float
    arrivals: NDArray[np.float64]
    latencies_ms: tuple[NDArray[np.float64], ...]


class Recorder:
    """Keeps what is judged and drawn of every interval of one episode."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._rows: list[_Row] = []

    def add(
        self, telemetry: Telemetry, info: Mapping[str, Any], reward: float, decision_ms: dict[str, float]
    ) -> Interval:
        """Record one step from the environment's telemetry and `info`; returns all that is known of it."""
        interval = Interval(
            telemetry=telemetry,
            capacity_rps=capacity_rps(self._scenario, telemetry.ready),
            reward=reward,
            reward_parts={name: float(value) for name, value in info.get("reward_parts", {}).items()},
            decision_ms=decision_ms,
            metrics={name: float(value) for name, value in info["metrics"].items()},
            illegal_actions=illegal_kinds(info.get("illegal_actions", {})),
        )
        self._rows.append(_row(interval))
        return interval

    def recording(self) -> Recording:
        """The measurements that the metrics need."""
        series, rows = self.series(), self._rows
        return Recording(
            time_s=series["time_s"],
            interval_s=series["interval_s"],
            containers=series["containers"].astype(np.float64),
            connections=series["connections"].astype(np.float64),
            connection_churn=np.array([row.connection_churn for row in rows], np.float64),
            load_variance=np.array([row.load_variance for row in rows]),
            arrivals=np.array([row.arrivals for row in rows]),
            requests=series["requests"],
            failed=series["failed"],
            slow=series["slow"],
            decision_ms=series["decision_ms/total"],
            latencies_ms=tuple(row.latencies_ms for row in rows),
        )

    def series(self) -> dict[str, NDArray[Any]]:
        """One row per control interval (T of them; C request classes, M microservices).

        `time_s`, `interval_s`, `containers`, `connections`, `capacity_rps`, `reward` (T,); `workload_rps`, `requests`,
        `failed`, `slow`, `p50_ms`, `p95_ms`, `p99_ms` (T, C), see `class_percentiles`; `illegal_actions` (T,);
        `replicas` (T, M), ready or starting; `decision_ms/TIER`, `reward/PART`, `metrics/NAME` and `illegal/KIND` (T,),
        NaN where an interval had none.
        """
        rows = self._rows
        scalars = sorted({name for row in rows for name in row.scalars})
        series = {name: np.array([row.series[name] for row in rows]) for name in rows[0].series}
        series.update({name: np.array([row.scalars.get(name, np.nan) for row in rows]) for name in scalars})
        return series


def _row(interval: Interval) -> _Row:
    t = interval.telemetry
    parts: dict[str, Mapping[str, float]] = {
        "decision_ms": interval.decision_ms,
        "reward": interval.reward_parts,
        "metrics": interval.metrics,
        "illegal": interval.illegal_actions,
    }
    return _Row(
        series={
            "time_s": t.time_s,
            "interval_s": t.interval_s,
            "containers": interval.containers,
            "connections": int(t.connections.sum()),
            "capacity_rps": interval.capacity_rps,
            "reward": interval.reward,
            "workload_rps": t.workload_rps,
            "requests": t.requests,
            "failed": t.failed,
            "slow": t.slow,
            "illegal_actions": sum(interval.illegal_actions.values()),
            "replicas": (t.ready + t.pending).sum(axis=1),
            **{f"p{percentile}_ms": class_percentiles(t, percentile) for percentile in (50, 95, 99)},
        },
        scalars={f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()},
        connection_churn=t.connection_churn,
        load_variance=load_variance(t),
        arrivals=t.workload_rps * t.interval_s,
        latencies_ms=t.latencies_ms,
    )


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
