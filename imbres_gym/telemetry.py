"""What can be measured in one interval: the same from a simulated and from a live cluster."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPAN = np.dtype(
    [
        ("request", np.int64),  # number of the request, unique in the episode
        ("span", np.int64),  # number of the span, unique in the episode
        ("parent", np.int64),  # span that called, -1 at the root
        ("microservice", np.int64),
        ("container", np.int64),  # id of the container
        ("request_class", np.int64),
        ("start_s", np.float64),  # the server received the call
        ("end_s", np.float64),  # the server answered
        ("own_ms", np.float64),  # duration without the merged child spans
    ]
)
"""One span of a sampled request; NumPy structured dtype of `Telemetry.spans`."""


MAX_PAIR_SHARES = 1_000_000
"""Entries that `pair_share` has at most: 8 MB of telemetry per interval (estimate); a larger one is left out."""


def pair_share_shape(pairs: int, hosts: int) -> tuple[int, int, int]:
    """Shape of `pair_share`: (P, H, H), or (P, 0, 0) where that has more than `MAX_PAIR_SHARES` entries."""
    side = hosts if pairs * hosts * hosts <= MAX_PAIR_SHARES else 0
    return pairs, side, side


@dataclass(frozen=True, eq=False)
class ClusterInfo:
    """What is fixed for an episode and known to an agent: structure, limits and targets, nothing measured.

    Attributes:
        microservices: names; their order is that of every array over microservices (M of them).
        hosts: names of the H hosts.
        classes: names of the C request classes.
        pairs: the P (upstream, downstream) pairs of microservices that call each other.
        entries: microservices that end users call.
        called: those that requests of each class call, sorted: C tuples.
        cores: (M,) CPU quota of one container [cores].
        memory_mb: (M,) memory of one container.
        host_cores: cores of a host.
        sla_ms: target of the 95th percentile of the E2E latency.
        control_interval_s, scaling_interval_s: time between decisions.
        min_replicas, max_replicas: bounds of a replica count.
        max_containers: rows of the padded container table.
        connections_per_container: connection budget of a pair, per downstream container.
        startup_s: usual time from creation to readiness.
        initial_replicas: (M,) containers at the start.
    """

    microservices: tuple[str, ...]
    hosts: tuple[str, ...]
    classes: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    entries: tuple[int, ...]
    called: tuple[tuple[int, ...], ...]
    cores: Floats
    memory_mb: Floats
    host_cores: float
    sla_ms: float
    control_interval_s: float
    scaling_interval_s: float
    min_replicas: int
    max_replicas: int
    max_containers: int
    connections_per_container: int
    startup_s: float
    initial_replicas: Ints


@dataclass(frozen=True, eq=False)
class Telemetry:
    """Measurements of one interval (M microservices, H hosts, C request classes, P pairs, N containers).

    Latencies are over the spans and requests that ended in the interval. Where there was none, the value is the last
    known one (0 if there never was one), `samples` is 0 and `age_s` grows.

    Attributes:
        time_s: end of the interval, since the start of the episode.
        interval_s: its length.
        container_id: (N,) int64, unique in an episode, rising with creation.
        container_microservice, container_host: (N,) int64 indices.
        container_ready: (N,) bool, takes requests.
        container_rps: (N,) requests/s that arrived.
        container_cpu: (N,) CPU use as a share of the quota [0-1].
        container_age_s: (N,) since creation.
        own_latency_ms: (M, H) mean own latency (span without its children).
        own_p95_ms: (M, H) its 95th percentile.
        load_rps: (M, H) calls/s that arrived.
        samples: (M, H) spans that ended.
        age_s: (M, H) age of the latency values; 0 when fresh.
        cpu_utilisation: (M, H) CPU use of the containers there, as a share of their quota [0-1].
        microservice_p95_ms: (M,) 95th percentile of own latency over all containers.
        ready, pending: (M, H) int64 containers.
        wanted: (M,) int64 replicas wanted.
        interference: (H, 4) utilisation of CPU, memory bandwidth, network, LLC by everything on the host [0-1].
        e2e_ms: (C, 4) mean, p50, p95, p99 of the E2E latency of requests that ended without failure.
        requests: (C,) int64 requests that ended; failed ones included.
        failed: (C,) int64 of them rejected, in error or past their deadline.
        slow: (C,) int64 of them slower than the SLA, failed ones included.
        workload_rps: (C,) end-user requests/s that arrived.
        latencies_ms: C arrays, E2E latency of every request that ended without failure, for exact percentiles of
            longer windows. Of a class with very many requests it may be an even sample, sorted: see
            `imbres_gym.percentiles.on_one_scale`.
        proportions: (M, H) load proportions in force.
        connections: (P,) int64 open connections.
        connection_churn: connections opened and closed since the last interval.
        pair_share: (P, H, H) share of a pair's traffic from upstream host to downstream host, planned; (P, 0, 0) in a
            large cluster, see `pair_share_shape`.
        spans: (n,) of dtype `SPAN`, spans of sampled requests that ended.
    """

    time_s: float
    interval_s: float
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
    latencies_ms: tuple[Floats, ...]
    proportions: Floats
    connections: Ints
    connection_churn: int
    pair_share: Floats
    spans: NDArray[np.void]

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are the same, bit for bit; NaN equals NaN."""
        if not isinstance(other, Telemetry):
            return NotImplemented
        return all(_same(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))


def _same(mine: object, theirs: object) -> bool:
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        return len(mine) == len(theirs) and all(map(_same, mine, theirs))
    if isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
        return mine.dtype == theirs.dtype and mine.shape == theirs.shape and mine.tobytes() == theirs.tobytes()
    return mine == theirs
