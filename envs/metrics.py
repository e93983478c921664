"""`info["metrics"]`: a flat dictionary of floats per step, the same for every environment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imbres_gym.imbalance import latency_cv, load_variance
from imbres_gym.observation import Observation
from imbres_gym.percentiles import class_tails, sample_weights, tail_latencies
from imbres_gym.telemetry import Telemetry


def step_metrics(intervals: Sequence[Telemetry], observation: Observation) -> dict[str, float]:
    """Metrics of one step.

    Args:
        intervals: telemetry of the step's control intervals, at least one.
        observation: the observation at the end of the step.

    Returns:
        containers: containers that exist, pending ones included [-]; mean over the intervals.
        connections: open connections of all pairs [-]; mean over the intervals.
        connection_churn: connections opened and closed in the step [-].
        p50_ms, p95_ms, p99_ms: E2E latency of all requests that ended in the step [ms]; a failed request counts as
            `FAILED_MS`; 0 without requests.
        window_p95_ms: p95 of the worst request class over the last scaling interval [ms].
        sla_violation: 1 if `window_p95_ms` exceeds the SLA, else 0.
        request_violation: share of requests that were slower than the SLA or failed [0-1]; 0 without requests.
        failed: share of requests that failed [0-1].
        workload_rps: end-user requests that arrived [1/s]; mean over the intervals.
        load_variance: see `imbres_gym.imbalance.load_variance`; mean over the intervals.
        latency_cv: see `imbres_gym.imbalance.latency_cv`; mean over the intervals.
    """
    ended = [count for t in intervals for count in t.requests.tolist()]
    failed = [count for t in intervals for count in t.failed.tolist()]
    slow = sum([sum(t.slow.tolist()) for t in intervals])
    requests = max(sum(ended), 1)
    latencies = [of_class for t in intervals for of_class in t.latencies_ms]
    weights = sample_weights(latencies, ended, failed)
    p50_ms, p95_ms, p99_ms = tail_latencies(latencies, sum(failed), (50.0, 95.0, 99.0), weights)
    window_p95_ms = max(observation["window_p95_ms"].tolist())
    return {
        "containers": _mean([float(t.ready.sum() + t.pending.sum()) for t in intervals]),
        "connections": _mean([float(sum(t.connections.tolist())) for t in intervals]),
        "connection_churn": float(sum([t.connection_churn for t in intervals])),
        "p50_ms": p50_ms,
        "p95_ms": p95_ms,
        "p99_ms": p99_ms,
        "window_p95_ms": window_p95_ms,
        "sla_violation": float(window_p95_ms > observation["sla_ms"].item()),
        "request_violation": slow / requests,
        "failed": sum(failed) / requests,
        "workload_rps": _mean([sum(t.workload_rps.tolist()) for t in intervals]),
        "load_variance": _mean([load_variance(t) for t in intervals]),
        "latency_cv": _mean([latency_cv(t) for t in intervals]),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)  # of one or a few: NumPy would take longer to start


def class_p95_ms(telemetry: Telemetry) -> NDArray[np.float64]:
    """p95 of the E2E latency of each request class (C,) [ms]; a failed request counts as `FAILED_MS`."""
    return np.array(class_tails(telemetry.latencies_ms, telemetry.requests, telemetry.failed, 95.0))
