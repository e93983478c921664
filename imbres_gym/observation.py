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
| window_p95_ms | (C,) float32 | ms | p95 of the last scaling interval; failed requests: 10 s; below 20 requests: 0 |
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

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.experimental import structref
from numpy.typing import NDArray

from imbres_gym.jit import HandleType, compiled
from imbres_gym.lent import Lent
from imbres_gym.telemetry import ClusterInfo, pair_share_shape

Observation = dict[str, NDArray[Any]]

Reals = NDArray[np.float32]
Ints = NDArray[np.int64]

INTEGERS = ("samples", "ready", "pending", "wanted", "requests", "failed", "connections", "containers")

KEPT = 2
"""Pages that are kept: a loop holds the last observation while it asks for the next one."""


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


@structref.register
class _SheetType(HandleType):
    pass


class Sheet(structref.StructRefProxy):
    """A handle on a `Seen` for compiled code, see `imbres_gym.panel`."""


structref.define_proxy(Sheet, _SheetType, ["seen"])


@compiled
def _sheet(seen):
    return Sheet(seen)


class Page:
    """Arrays that observations are written into.

    Args:
        arrays: see `new_observation`; they are contiguous and writeable.
    """

    def __init__(self, arrays: Observation) -> None:
        self.arrays = arrays
        self.sheet: Sheet = _sheet(Seen(**arrays))
        """The arrays, for compiled code."""

    def __reduce__(self) -> tuple[type[Page], tuple[Observation]]:
        """A pickle has the arrays, not the handle on them."""
        return Page, (self.arrays,)


class Pages:
    """Pages for a caller who keeps observations; those that nobody holds any more are written into again."""

    def __init__(self, info: ClusterInfo) -> None:
        self._info = info
        self._kept: list[tuple[Page, Lent]] = []

    def blank(self) -> tuple[Page, Observation]:
        """One whose arrays nobody holds, and the arrays for the caller; what is in them is not said."""
        for page, lent in self._kept:
            if lent.free:
                return page, lent.views()
        page = Page(new_observation(self._info))
        lent = Lent(page.arrays)
        self._kept = [*self._kept, (page, lent)][-KEPT:]
        return page, lent.views()

    def __getstate__(self) -> dict[str, Any]:
        """A pickle keeps no pages."""
        return {"_info": self._info, "_kept": []}
