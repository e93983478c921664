"""What an agent sees: one dictionary of arrays per control interval, the same for a simulated and a live cluster.

M microservices, H hosts, C request classes, P pairs; N = `ClusterInfo.max_containers` rows in the container table.

| key | shape, dtype | unit | meaning |
|---|---|---|---|
| time_s | (1,) float32 | s | end of the interval, since the start of the episode |
| own_latency_ms | (M, H) float32 | ms | mean own latency of the spans that ended (without children) |
| own_p95_ms | (M, H) float32 | ms | their 95th percentile |
| load_rps | (M, H) float32 | 1/s | calls that arrived |
| samples | (M, H) int64 | - | spans that ended; 0: the latency is an old one |
| age_s | (M, H) float32 | s | age of the latency |
| cpu_utilisation | (M, H) float32 | - | CPU use of the containers as a share of their quota |
| microservice_p95_ms | (M,) float32 | ms | 95th percentile of own latency over all containers |
| ready, pending | (M, H) int64 | - | containers |
| wanted | (M,) int64 | - | replicas wanted |
| interference | (H, 4) float32 | 0-1 | utilisation of CPU, memory bandwidth, network, LLC by all on the host |
| e2e_ms | (C, 4) float32 | ms | mean, p50, p95, p99 of the E2E latency of requests that did not fail |
| window_p95_ms | (C,) float32 | ms | p95 in the last scaling interval; a failed request counts as 10 s |
| requests, failed | (C,) int64 | - | requests that ended; those that failed |
| workload_rps | (C,) float32 | 1/s | end-user requests that arrived |
| sla_ms | (1,) float32 | ms | target of the p95 |
| proportions | (M, H) float32 | 0-1 | load proportions in force |
| connections | (P,) int64 | - | open connections |
| pair_share | (P, H, H) float32 | 0-1 | share of a pair's traffic from host to host; see below |
| containers | (N, 4) int64 | - | id, microservice, host, ready (0 or 1); unused rows are -1 |
| container_usage | (N, 3) float32 | 1/s, -, s | requests/s, CPU as a share of the quota, age; unused rows are 0 |
| critical_path | (M, 3) float32 | - | of the traces of the last scaling interval; zeros without traces: see below |

`pair_share` is left out of large clusters: with more than a million entries its shape is (P, 0, 0)
(`imbres_gym.telemetry.pair_share_shape`).

`critical_path` has the share of the traced requests whose critical path visits the microservice [0-1], its relative
importance RI [-1, 1] and its congestion intensity CI (p99 / p50, >= 1; 0 if unknown), see `imbres_gym.critical_path`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.critical_path import PathWindow
from imbres_gym.jit import compiled
from imbres_gym.latency_window import LatencyWindow
from imbres_gym.telemetry import ClusterInfo, Telemetry

Observation = dict[str, NDArray[Any]]

_INTEGER = ("samples", "ready", "pending", "wanted", "requests", "failed", "connections")
_REAL = (
    "own_latency_ms",
    "own_p95_ms",
    "load_rps",
    "age_s",
    "cpu_utilisation",
    "microservice_p95_ms",
    "interference",
    "e2e_ms",
    "workload_rps",
    "proportions",
    "pair_share",
)


class Observer:
    """Turns the telemetry of successive intervals into observations.

    Remembers the latencies and the traces of one scaling interval.
    """

    def __init__(self, info: ClusterInfo) -> None:
        self._info = info
        self._window = LatencyWindow(len(info.classes), info.scaling_interval_s)
        self._paths = PathWindow(len(info.microservices), info.scaling_interval_s)

    def reset(self) -> None:
        """Forget the past."""
        self._window.reset()
        self._paths.reset()

    def observe(self, telemetry: Telemetry) -> Observation:
        """The observation after one more interval; its arrays are new and belong to the caller."""
        self._window.add(telemetry)
        observation: Observation = {name: np.array(getattr(telemetry, name), np.int64) for name in _INTEGER}
        observation.update({name: np.array(getattr(telemetry, name), np.float32) for name in _REAL})
        observation["time_s"] = np.array([telemetry.time_s], np.float32)
        observation["sla_ms"] = np.array([self._info.sla_ms], np.float32)
        observation["window_p95_ms"] = self._window.p95_ms().astype(np.float32)
        observation["containers"], observation["container_usage"] = self._container_table(telemetry)
        self._paths.add(telemetry.spans, telemetry.time_s)
        observation["critical_path"] = self._paths.features().astype(np.float32)
        return observation

    def _container_table(self, telemetry: Telemetry) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        t = telemetry
        usage = (t.container_rps, t.container_cpu, t.container_age_s)
        table: tuple[NDArray[np.int64], NDArray[np.float32]] = _container_table(
            self._info.max_containers,
            t.container_id,
            t.container_microservice,
            t.container_host,
            t.container_ready,
            *usage,
        )
        return table


@compiled
def _container_table(room, ids, microservice, host, ready, rps, cpu, age_s):  # type: ignore[no-untyped-def]
    """Table (room, 4) and usage (room, 3) of the containers; those for which there is no room are left out."""
    table, usage = np.full((room, 4), -1, np.int64), np.zeros((room, 3), np.float32)
    for row in range(min(room, len(ids))):
        table[row, 0], table[row, 1], table[row, 2], table[row, 3] = ids[row], microservice[row], host[row], ready[row]
        usage[row, 0], usage[row, 1], usage[row, 2] = rps[row], cpu[row], age_s[row]
    return table, usage
