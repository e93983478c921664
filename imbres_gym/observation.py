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

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym import latency_window
from imbres_gym.critical_path import PathWindow
from imbres_gym.jit import compiled_with
from imbres_gym.latency_window import clear, grown, new_window, percentiles_since, remember
from imbres_gym.measured import CONTAINERS, TIME_S, Measured, new_measured, write
from imbres_gym.panel import Panel, panel
from imbres_gym.telemetry import ClusterInfo, Telemetry, pair_share_shape

Observation = dict[str, NDArray[Any]]

Reals = NDArray[np.float32]
Ints = NDArray[np.int64]

P95 = np.array([0.95])

INTEGERS = ("samples", "ready", "pending", "wanted", "requests", "failed", "connections", "containers")


class Seen(NamedTuple):
    """The arrays of an observation, for compiled code."""

    time_s: Reals
    own_latency_ms: Reals
    own_p95_ms: Reals
    load_rps: Reals
    samples: Ints
    age_s: Reals
    cpu_utilisation: Reals
    microservice_p95_ms: Reals
    ready: Ints
    pending: Ints
    wanted: Ints
    interference: Reals
    e2e_ms: Reals
    window_p95_ms: Reals
    requests: Ints
    failed: Ints
    workload_rps: Reals
    sla_ms: Reals
    proportions: Reals
    connections: Ints
    pair_share: Reals
    containers: Ints
    container_usage: Reals
    critical_path: Reals


def new_observation(info: ClusterInfo) -> Observation:
    """Arrays for an observation, in the order of the table above."""
    m, h, c, p = len(info.microservices), len(info.hosts), len(info.classes), len(info.pairs)
    n = info.max_containers
    per_cell = dict.fromkeys(
        ("own_latency_ms", "own_p95_ms", "load_rps", "samples", "age_s", "cpu_utilisation", "ready", "pending"), (m, h)
    )
    shapes: dict[str, tuple[int, ...]] = {
        **per_cell,
        "time_s": (1,),
        "sla_ms": (1,),
        "microservice_p95_ms": (m,),
        "wanted": (m,),
        "interference": (h, 4),
        "e2e_ms": (c, 4),
        **dict.fromkeys(("window_p95_ms", "requests", "failed", "workload_rps"), (c,)),
        "proportions": (m, h),
        "connections": (p,),
        "pair_share": pair_share_shape(p, h),
        "containers": (n, 4),
        "container_usage": (n, 3),
        "critical_path": (m, 3),
    }
    return {name: np.zeros(shapes[name], np.int64 if name in INTEGERS else np.float32) for name in Seen._fields}


class Observer:
    """Turns the telemetry of successive intervals into observations.

    Remembers the latencies and the traces of one scaling interval.

    Args:
        info: fixed facts of the episode.
        into: arrays of the observation, see `new_observation`; None makes some.
    """

    def __init__(self, info: ClusterInfo, into: Observation | None = None) -> None:
        self._info = info
        self._measured = new_measured(info)
        self._observation = new_observation(info) if into is None else into
        self._seen = Seen(**self._observation)
        intervals = int(np.ceil(info.scaling_interval_s / info.control_interval_s - 1e-9))
        self._window = new_window(len(info.classes), info.scaling_interval_s, intervals)
        self._paths = PathWindow(len(info.microservices), info.scaling_interval_s)
        self._panel: Panel | None = None
        self.reset()

    @property
    def measured(self) -> Measured:
        """The numbers of the last interval; the next one overwrites them."""
        return self._measured

    @property
    def observation(self) -> Observation:
        """The last one; the next interval overwrites it."""
        return self._observation

    @property
    def panel(self) -> Panel:
        """All arrays, for compiled code."""
        if self._panel is None:
            self._panel = panel(self._measured, self._window, self._seen)
        return self._panel

    def reset(self) -> None:
        """Forget the past."""
        clear(self._window)
        self._paths.reset()
        for values in self._seen:
            values[...] = 0
        self._seen.containers[...] = -1
        self._seen.sla_ms[0] = self._info.sla_ms

    def observe(self, telemetry: Telemetry) -> Observation:
        """The observation after one more interval; its arrays are new and belong to the caller."""
        self.see_telemetry(telemetry)
        return {name: array.copy() for name, array in self._observation.items()}

    def see_telemetry(self, telemetry: Telemetry) -> None:
        """Bring `observation` and `measured` up to date with one more interval."""
        self._paths.add(telemetry.spans, telemetry.time_s)
        self._seen.critical_path[...] = self._paths.features()
        self.see(write(telemetry, self._measured))

    def see(self, measured: Measured) -> None:
        """Bring `observation` up to date with one more interval without traces, and keep `measured` itself."""
        if measured is not self._measured:
            self._measured, self._panel = measured, None
        while not _see(self.panel):
            self._window, self._panel = grown(self._window, int(measured.listed.max())), None

    def __getstate__(self) -> dict[str, Any]:
        """A pickle has the arrays, not the panel of them."""
        return {**self.__dict__, "_panel": None}


@compiled_with(*latency_window.SOURCES)
def _see(panel):  # type: ignore[no-untyped-def]
    """As `Observer.see`; False, and nothing has happened, if the window has no room."""
    measured, window, seen = panel.measured, panel.window, panel.seen
    if not remember(window, measured):
        return False
    seen.time_s[0] = measured.clock[TIME_S]
    m, h = measured.ready.shape
    for i in range(m):
        seen.wanted[i] = measured.wanted[i]
        seen.microservice_p95_ms[i] = measured.microservice_p95_ms[i]
        for j in range(h):
            seen.own_latency_ms[i, j] = measured.own_latency_ms[i, j]
            seen.own_p95_ms[i, j] = measured.own_p95_ms[i, j]
            seen.load_rps[i, j] = measured.load_rps[i, j]
            seen.samples[i, j] = measured.samples[i, j]
            seen.age_s[i, j] = measured.age_s[i, j]
            seen.cpu_utilisation[i, j] = measured.cpu_utilisation[i, j]
            seen.ready[i, j] = measured.ready[i, j]
            seen.pending[i, j] = measured.pending[i, j]
            seen.proportions[i, j] = measured.proportions[i, j]
    seen.interference[:] = measured.interference
    seen.connections[:] = measured.connections
    seen.pair_share[:] = measured.pair_share
    seen.e2e_ms[:] = measured.e2e_ms
    p95 = np.zeros(1)
    for c in range(len(measured.requests)):
        seen.requests[c] = measured.requests[c]
        seen.failed[c] = measured.failed[c]
        seen.workload_rps[c] = measured.workload_rps[c]
        percentiles_since(window, -np.inf, c, P95, p95)
        seen.window_p95_ms[c] = p95[0]
    show_containers(measured, seen)
    return True


@compiled_with()
def show_containers(measured: Measured, seen: Seen) -> None:
    """The container table; rows that were in use and are not any more become those of nobody."""
    count = measured.counts[CONTAINERS]
    table, usage = seen.containers, seen.container_usage
    for row in range(count):
        table[row, 0] = measured.container_id[row]
        table[row, 1] = measured.container_microservice[row]
        table[row, 2] = measured.container_host[row]
        table[row, 3] = measured.container_ready[row]
        usage[row, 0] = measured.container_rps[row]
        usage[row, 1] = measured.container_cpu[row]
        usage[row, 2] = measured.container_age_s[row]
    row = count
    while row < len(table) and table[row, 0] >= 0:
        table[row, :] = -1
        usage[row, :] = 0.0
        row += 1
