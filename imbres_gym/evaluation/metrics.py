"""The numbers that an episode is judged by, computed from what was measured in its control intervals.

All of them are exact over the requests that *ended* in the measured part: a request still in flight at the end of the
episode is not counted. A failed request counts as slower than every other one (`imbres_gym.observation.FAILED_MS`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.percentiles import FAILED_MS, MIN_REQUESTS, on_one_scale, tail_latency

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WINDOW_S = 60.0
"""Length of the windows whose p95 is held against the SLA [s]: the scaling interval of Imbres section 6.1."""

METRICS = (
    "containers",
    "sla_violation",
    "request_violation",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "connections",
    "connection_churn",
    "load_variance",
    "decision_ms",
)
"""Names of the metrics, in the order of every table; `decision_ms` alone differs between repetitions of an episode."""

_EPSILON_S = 1e-6


@dataclass(frozen=True)
class Recording:
    """What was measured in T successive control intervals of one episode with C request classes.

    Attributes:
        time_s: (T,) end of each interval since the start of the episode.
        interval_s: (T,) its length.
        containers: (T,) containers, ready or starting, at the end of the interval.
        connections: (T,) open connections at its end.
        connection_churn: (T,) connections opened and closed in it.
        load_variance: (T,) see `imbres_gym.imbalance.load_variance`.
        arrivals: (T, C) end-user requests that arrived.
        requests: (T, C) requests that ended, failed ones included.
        failed: (T, C) of them failed.
        slow: (T, C) of them slower than the SLA or failed.
        decision_ms: (T,) wall-clock time of the decision before the interval.
        latencies_ms: T tuples of C arrays, E2E latency of each request that ended without failure.
    """

    time_s: Floats
    interval_s: Floats
    containers: Floats
    connections: Floats
    connection_churn: Floats
    load_variance: Floats
    arrivals: Floats
    requests: Ints
    failed: Ints
    slow: Ints
    decision_ms: Floats
    latencies_ms: tuple[tuple[Floats, ...], ...]

    def __len__(self) -> int:
        return len(self.time_s)

    def since(self, start_s: float) -> Recording:
        """The intervals that start at `start_s` or later."""
        return self.select(self.time_s - self.interval_s >= start_s - _EPSILON_S)

    def select(self, chosen: NDArray[np.bool_]) -> Recording:
        """The intervals where `chosen` (T,) is true."""
        return Recording(
            self.time_s[chosen],
            self.interval_s[chosen],
            self.containers[chosen],
            self.connections[chosen],
            self.connection_churn[chosen],
            self.load_variance[chosen],
            self.arrivals[chosen],
            self.requests[chosen],
            self.failed[chosen],
            self.slow[chosen],
            self.decision_ms[chosen],
            tuple(self.latencies_ms[index] for index in np.flatnonzero(chosen)),
        )


@dataclass(frozen=True)
class Windows:
    """The windows of a recording, W of them.

    Attributes:
        start_s, end_s: (W,) since the start of the episode.
        p95_ms: (W, C) 95th percentile of the E2E latency; of fewer than `MIN_REQUESTS` 0, but infinite if so many had a
            whole interval's time to end.
        violated: (W,) the p95 of at least one class is above the SLA.
    """

    start_s: Floats
    end_s: Floats
    p95_ms: Floats
    violated: NDArray[np.bool_]


def cut_windows(recording: Recording, sla_ms: float) -> Windows:
    """Cut a recording into windows of `WINDOW_S`, from its start.

    A last window that is shorter is left out, unless it is the only one.

    Raises:
        ValueError: the recording is empty.
    """
    if len(recording) == 0:
        raise ValueError("no interval was measured")
    start_s = float(recording.time_s[0] - recording.interval_s[0])
    # The middle of an interval decides, so that rounding of its end does not.
    middles = recording.time_s - 0.5 * recording.interval_s
    index = np.floor((middles - start_s) / WINDOW_S).astype(np.int64)
    whole = int((recording.time_s[-1] - start_s + _EPSILON_S) // WINDOW_S)
    parts = [recording.select(index == window) for window in range(max(1, whole))]
    parts = [part for part in parts if len(part)]
    p95 = np.array([_window_p95(part) for part in parts])
    return Windows(
        start_s=np.array([part.time_s[0] - part.interval_s[0] for part in parts]),
        end_s=np.array([part.time_s[-1] for part in parts]),
        p95_ms=p95,
        violated=np.any(p95 > sla_ms, axis=1),
    )


def _window_p95(window: Recording) -> list[float]:
    """p95 per class, see `Windows`."""
    values: list[float] = []
    for index in range(window.requests.shape[1]):
        if window.requests[:, index].sum() >= MIN_REQUESTS:
            values.append(_percentile(window, (index,), 95.0))
        else:
            waited = round(window.arrivals[:-1, index].sum())
            values.append(float("inf") if waited >= MIN_REQUESTS else 0.0)
    return values


def _percentile(recording: Recording, classes: tuple[int, ...], percentile: float) -> float:
    return tail_latency(*pooled_latencies(recording, classes), percentile)


def pooled_latencies(recording: Recording, classes: tuple[int, ...] | None = None) -> tuple[Floats, int]:
    """E2E latency of the requests of some classes (all, if None), unordered [ms], and how many failed beside them."""
    chosen = list(range(recording.requests.shape[1]) if classes is None else classes)
    arrays = [latencies[index] for latencies in recording.latencies_ms for index in chosen]
    ended, failed = (counts[:, chosen].ravel().tolist() for counts in (recording.requests, recording.failed))
    parts, beside = on_one_scale(arrays, ended, failed)
    return np.concatenate([np.zeros(0), *parts]), beside


def episode_metrics(recording: Recording, sla_ms: float) -> dict[str, float]:
    """Every metric of `METRICS` over one recording.

    - containers: time average, ready and starting ones;
    - sla_violation: share of windows (see `cut_windows`) whose p95 is above the SLA for any request class of 20
      requests or more [0-1];
    - request_violation: share of requests slower than the SLA or failed [0-1]; 1 if requests arrived and none ended;
    - p50_ms, p95_ms, p99_ms: over all requests of all classes;
    - connections: time average of the open connections;
    - connection_churn: connections opened and closed per minute;
    - load_variance: time average of the variance of load over the containers of a microservice, see `Recording`;
    - decision_ms: mean wall-clock time of a decision.

    Raises:
        ValueError: the recording is empty.
    """
    windows = cut_windows(recording, sla_ms)
    classes = tuple(range(recording.requests.shape[1]))
    ended = int(recording.requests.sum())
    unanswered = 1.0 if recording.arrivals.sum() > 0 else 0.0
    weights = recording.interval_s
    return {
        "containers": float(np.average(recording.containers, weights=weights)),
        "sla_violation": float(windows.violated.mean()),
        "request_violation": float(recording.slow.sum() / ended) if ended else unanswered,
        "p50_ms": _percentile(recording, classes, 50.0),
        "p95_ms": _percentile(recording, classes, 95.0),
        "p99_ms": _percentile(recording, classes, 99.0),
        "connections": float(np.average(recording.connections, weights=weights)),
        "connection_churn": float(60.0 * recording.connection_churn.sum() / weights.sum()),
        "load_variance": float(np.average(recording.load_variance, weights=weights)),
        "decision_ms": float(recording.decision_ms.mean()),
    }


QUANTILE_LEVELS: Floats = np.concatenate([np.linspace(0.0, 0.99, 397), 1.0 - np.logspace(-2.0, -5.0, 124)[1:]])
"""Levels at which the distribution of the E2E latency is kept: even up to the 99th percentile, then finer [0-1]."""


def latency_quantiles(recording: Recording) -> Floats:
    """The E2E latency of all requests at `QUANTILE_LEVELS` [ms]; failed requests as in the percentiles."""
    latencies, failed = pooled_latencies(recording)
    everything = np.concatenate([latencies, np.full(failed, FAILED_MS)])
    if everything.size == 0:
        return np.zeros(len(QUANTILE_LEVELS))
    return np.asarray(np.quantile(everything, QUANTILE_LEVELS))
