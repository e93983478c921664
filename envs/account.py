"""What becomes of a step: metrics and reward parts from the numbers of its control intervals, compiled."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba.experimental import structref
from numpy.typing import NDArray

from envs.metrics import METRICS
from envs.reward import ALLOWED_SLOW_SHARE, PARTS, RewardWeights, initial_cores
from imbres_gym import imbalance, latency_window
from imbres_gym.imbalance import cv_of_latency, variance_of_load
from imbres_gym.jit import HandleType, compiled, compiled_with
from imbres_gym.latency_window import percentiles_since
from imbres_gym.measured import CHURN, CONTAINERS, INTERVAL_S, TIME_S
from imbres_gym.panel import Panel
from imbres_gym.telemetry import ClusterInfo

Floats = NDArray[np.float64]

SOURCES = (
    Path(__file__).with_name("reward.py"),
    *latency_window.SOURCES,
    Path(imbalance.__file__),
)

QUANTILES = np.array([0.5, 0.95, 0.99])

COLUMNS = (*METRICS, "reward", *PARTS)
"""What is known of a step: metrics (`envs.metrics`), the reward, and its unweighted parts (`envs.reward`)."""


class _Sums(NamedTuple):
    """Over the intervals of a step.

    Attributes:
        begin_s: (1,) when the first of them began.
        intervals: (1,) how many there are.
        of_intervals: (8,) sums of containers, connections, changed connections, requests/s, load variance, latency CV,
            allocated cores, and changed connections as a share of those before and after.
        requests: (3, C) that ended, failed and were slow.
        connections: (1,) open at the end of the last interval, of this step or of the one before.
        cores: (M,) quota of a container.
        initial_cores: (1,) quota of all containers at the start of the episode.
        sla_ms: (1,) target of the p95.
        weights: of the reward parts.
        out: values of `COLUMNS`.
    """

    begin_s: Floats
    intervals: Floats
    of_intervals: Floats
    requests: Floats
    connections: Floats
    cores: Floats
    initial_cores: Floats
    sla_ms: Floats
    weights: Floats
    out: Floats


@structref.register
class _LedgerType(HandleType):
    pass


class Ledger(structref.StructRefProxy):
    """A handle on `_Sums` for compiled code, see `imbres_gym.panel`."""


structref.define_proxy(Ledger, _LedgerType, ["sums"])


@compiled
def _ledger(sums):
    return Ledger(sums)


class Account:
    """Adds up the intervals of a step.

    Args:
        info: fixed facts of the episode.
        weights: of the reward parts.
    """

    def __init__(self, info: ClusterInfo, weights: RewardWeights) -> None:
        self._sums = _Sums(
            begin_s=np.zeros(1),
            intervals=np.zeros(1),
            of_intervals=np.zeros(8),
            requests=np.zeros((3, len(info.classes))),
            connections=np.zeros(1),
            cores=info.cores,
            initial_cores=np.array([initial_cores(info)]),
            sla_ms=np.array([info.sla_ms]),
            weights=np.array([getattr(weights, name) for name in PARTS]),
            out=np.zeros(len(COLUMNS)),
        )
        self._ledger: Ledger | None = None

    def start(self, connections: int | None = None) -> None:
        """A step begins; with this many open connections, None being those at the end of the last one."""
        self._sums.intervals[0] = 0.0
        if connections is not None:
            self._sums.connections[0] = connections

    def add(self, panel: Panel) -> None:
        """An interval has passed."""
        _add(panel, self.ledger)

    def close(self, panel: Panel) -> list[float]:
        """The step has ended: the values of `COLUMNS`."""
        _close(panel, self.ledger)
        values: list[float] = self._sums.out.tolist()
        return values

    @property
    def ledger(self) -> Ledger:
        """The sums, for compiled code."""
        if self._ledger is None:
            self._ledger = _ledger(self._sums)
        return self._ledger

    def __getstate__(self) -> dict[str, Any]:
        """A pickle has the sums, not the handle on them."""
        return {**self.__dict__, "_ledger": None}


@compiled_with(*SOURCES)
def _add(panel, ledger):
    measured, sums = panel.measured, ledger.sums
    begin_s, intervals, of_intervals = sums.begin_s, sums.intervals, sums.of_intervals
    requests, connections, cores = sums.requests, sums.connections, sums.cores
    if intervals[0] == 0.0:
        begin_s[0] = measured.clock[TIME_S] - measured.clock[INTERVAL_S]
        of_intervals[:] = 0.0
        requests[:] = 0.0
    containers, allocated, rps = 0.0, 0.0, 0.0
    for m in range(len(cores)):
        of_microservice = 0
        for h in range(measured.ready.shape[1]):
            of_microservice += measured.ready[m, h] + measured.pending[m, h]
        containers += of_microservice
        allocated += cores[m] * of_microservice
    for c in range(len(measured.requests)):
        requests[0, c] += measured.requests[c]
        requests[1, c] += measured.failed[c]
        requests[2, c] += measured.slow[c]
        rps += measured.workload_rps[c]
    before, churn = connections[0], measured.counts[CHURN]
    connections[0] = measured.connections.sum()
    n = measured.counts[CONTAINERS]
    values = (
        containers,
        connections[0],
        float(churn),
        rps,
        variance_of_load(
            measured.container_microservice[:n], measured.container_rps[:n], measured.container_ready[:n], len(cores)
        ),
        cv_of_latency(measured.samples, measured.own_latency_ms),
        allocated,
        min(1.0, churn / max(1.0, before + connections[0])),
    )
    for i in range(len(values)):
        of_intervals[i] += values[i]
    intervals[0] += 1.0


@compiled_with(*SOURCES)
def _close(panel, ledger):
    """Overwrite `out`, in the order of `COLUMNS`."""
    sums, window, tails = ledger.sums, panel.window, np.zeros(3)
    requests, of_intervals, out, sla_ms = sums.requests, sums.of_intervals, sums.out, sums.sla_ms[0]
    percentiles_since(window, sums.begin_s[0], -1, QUANTILES, tails)
    mean = of_intervals / sums.intervals[0]
    ended, failed, slow, share, window_p95_ms = 0.0, 0.0, 0.0, 0.0, 0.0
    for c in range(requests.shape[1]):
        ended += requests[0, c]
        failed += requests[1, c]
        slow += requests[2, c]
        share = max(share, requests[2, c] / max(requests[0, c], 1.0))
        window_p95_ms = max(window_p95_ms, window.p95_ms[c])
    metrics = (
        mean[0],
        mean[1],
        of_intervals[2],
        tails[0],
        tails[1],
        tails[2],
        window_p95_ms,
        1.0 if window_p95_ms > sla_ms else 0.0,
        slow / max(ended, 1.0),
        failed / max(ended, 1.0),
        mean[3],
        mean[4],
        mean[5],
    )
    parts = (
        0.0 - mean[6] / sums.initial_cores[0],
        0.0 - max(0.0, share - ALLOWED_SLOW_SHARE) / (1.0 - ALLOWED_SLOW_SHARE),
        0.0 - mean[7],
        0.0 - tails[1] / (tails[1] + sla_ms),
    )
    reward = 0.0
    for i in range(len(metrics)):
        out[i] = metrics[i]
    for i in range(len(parts)):
        out[len(metrics) + 1 + i] = parts[i]
        reward += sums.weights[i] * parts[i]
    out[len(metrics)] = reward
