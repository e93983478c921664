"""The numbers of one interval's telemetry in arrays that stay: what compiled code writes and reads.

A simulated cluster that makes thousands of steps a second measures into them, and observation, metrics and reward are
computed from them; `Telemetry` is what a caller keeps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.percentiles import copy_sorted
from imbres_gym.telemetry import SPAN, ClusterInfo, Telemetry, pair_share_shape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TIME_S, INTERVAL_S = range(2)
"""Places in `Measured.clock`."""

CONTAINERS, CHURN = range(2)
"""Places in `Measured.counts`."""


class Measured(NamedTuple):
    """The fields of `Telemetry` of the same names, with their shapes; the next interval overwrites them.

    Attributes:
        clock: (2,) `time_s` and `interval_s`.
        counts: (2,) how many containers there are, and `connection_churn`.
        container_id: (N,) and what follows: of the containers; there is room for `ClusterInfo.max_containers`.
        latencies_ms: (C, room) E2E latencies of the requests that ended without failure, sorted.
        listed: (C,) how many there are.
    """

    clock: Floats
    counts: Ints
    container_id: Ints
    container_microservice: Ints
    container_host: Ints
    container_ready: NDArray[np.bool_]
    container_rps: Floats
    container_cpu: Floats
    container_age_s: Floats
    own_latency_ms: Floats
    own_p95_ms: Floats
    load_rps: Floats
    samples: Ints
    age_s: Floats
    cpu_utilisation: Floats
    microservice_p95_ms: Floats
    ready: Ints
    pending: Ints
    wanted: Ints
    interference: Floats
    e2e_ms: Floats
    requests: Ints
    failed: Ints
    slow: Ints
    workload_rps: Floats
    proportions: Floats
    connections: Ints
    pair_share: Floats
    latencies_ms: Floats
    listed: Ints


OF_CONTAINERS = Measured._fields[2:9]
ALIKE = Measured._fields[9:-2]
"""Fields that are the same array here and in `Telemetry`, but for the room that those of containers have here."""


def new_measured(info: ClusterInfo, room: int = 0) -> Measured:
    """Nothing is measured yet; there is room for so many latencies of a class."""
    m, h, c, p = len(info.microservices), len(info.hosts), len(info.classes), len(info.pairs)
    n = info.max_containers
    return Measured(
        clock=np.zeros(2),
        counts=np.zeros(2, np.int64),
        container_id=np.zeros(n, np.int64),
        container_microservice=np.zeros(n, np.int64),
        container_host=np.zeros(n, np.int64),
        container_ready=np.zeros(n, np.bool_),
        container_rps=np.zeros(n),
        container_cpu=np.zeros(n),
        container_age_s=np.zeros(n),
        own_latency_ms=np.zeros((m, h)),
        own_p95_ms=np.zeros((m, h)),
        load_rps=np.zeros((m, h)),
        samples=np.zeros((m, h), np.int64),
        age_s=np.zeros((m, h)),
        cpu_utilisation=np.zeros((m, h)),
        microservice_p95_ms=np.zeros(m),
        ready=np.zeros((m, h), np.int64),
        pending=np.zeros((m, h), np.int64),
        wanted=np.zeros(m, np.int64),
        interference=np.zeros((h, 4)),
        e2e_ms=np.zeros((c, 4)),
        requests=np.zeros(c, np.int64),
        failed=np.zeros(c, np.int64),
        slow=np.zeros(c, np.int64),
        workload_rps=np.zeros(c),
        proportions=np.zeros((m, h)),
        connections=np.zeros(p, np.int64),
        pair_share=np.zeros(pair_share_shape(p, h)),
        latencies_ms=np.zeros((c, room)),
        listed=np.zeros(c, np.int64),
    )


def widened(latencies: Floats, room: int) -> Floats:
    """The latencies of C classes with room for more of each; those that there are stay."""
    wider = np.zeros((len(latencies), room))
    wider[:, : latencies.shape[1]] = latencies
    return wider


def write(telemetry: Telemetry, measured: Measured) -> Measured:
    """Telemetry as numbers in these arrays; where latencies need more room, in another array.

    Containers for which there is no room are left out.
    """
    sizes = [latencies.size for latencies in telemetry.latencies_ms]
    if max(sizes) > measured.latencies_ms.shape[1]:
        measured = measured._replace(latencies_ms=widened(measured.latencies_ms, max(sizes) + max(sizes) // 4))
    count = min(len(telemetry.container_id), len(measured.container_id))
    measured.clock[:] = telemetry.time_s, telemetry.interval_s
    measured.counts[:] = count, telemetry.connection_churn
    for name in OF_CONTAINERS:
        getattr(measured, name)[:count] = getattr(telemetry, name)[:count]
    for name in ALIKE:
        getattr(measured, name)[...] = getattr(telemetry, name)
    for c, latencies in enumerate(telemetry.latencies_ms):
        copy_sorted(latencies, measured.latencies_ms[c, : latencies.size])
        measured.listed[c] = latencies.size
    return measured


def read(measured: Measured, spans: NDArray[np.void] | None = None) -> Telemetry:
    """Telemetry of its own, with these spans."""
    count, churn = measured.counts.tolist()
    time_s, interval_s = measured.clock.tolist()
    return Telemetry(
        time_s=time_s,
        interval_s=interval_s,
        connection_churn=churn,
        latencies_ms=tuple(
            [of_class[:n].copy() for of_class, n in zip(measured.latencies_ms, measured.listed.tolist(), strict=True)]
        ),
        spans=np.zeros(0, SPAN) if spans is None else spans,
        **{name: getattr(measured, name)[:count].copy() for name in OF_CONTAINERS},
        **{name: getattr(measured, name).copy() for name in ALIKE},
    )
