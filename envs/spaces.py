"""Observation and action spaces, built from the `ClusterInfo` of the episode."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from imbres_gym.percentiles import FAILED_MS
from imbres_gym.telemetry import ClusterInfo, pair_share_shape

UNBOUNDED = float(np.finfo(np.float32).max)
"""Upper bound of a rate, which has none of its own: the largest finite float32 [1/s]."""
UNCOUNTED = 2**62
"""Upper bound of a count that has none of its own."""


def observation_space(info: ClusterInfo, horizon_s: float) -> spaces.Dict:
    """The space of `imbres_gym.observation`: its keys, shapes and dtypes, with these bounds.

    Every lower bound is 0, but -1 in `containers` and of the correlation in `critical_path`. Upper bounds, where there
    is a true one: a latency and an age end with the episode (or `FAILED_MS`, which stands for a failed request); a CPU
    use with the cores of a host, divided by the quota; shares and utilisations at 1; replica counts at `max_replicas`;
    connections of a pair at `max_containers` squared. Rates, counts of requests and ratios of latencies have none, so
    theirs is the largest number of the dtype.

    Args:
        info: fixed facts of the episode.
        horizon_s: `time_s` can become no larger than this [s].
    """
    m, h, c, p = len(info.microservices), len(info.hosts), len(info.classes), len(info.pairs)
    n = info.max_containers
    latency_ms = max(horizon_s * 1000.0, FAILED_MS)
    cpu = info.host_cores / info.cores
    return spaces.Dict(
        {
            "time_s": _real((1,), horizon_s),
            "own_latency_ms": _real((m, h), latency_ms),
            "own_p95_ms": _real((m, h), latency_ms),
            "load_rps": _real((m, h), UNBOUNDED),
            "samples": _integer((m, h), UNCOUNTED),
            "age_s": _real((m, h), horizon_s),
            "cpu_utilisation": _real((m, h), cpu[:, None]),
            "microservice_p95_ms": _real((m,), latency_ms),
            "ready": _integer((m, h), info.max_replicas),
            "pending": _integer((m, h), info.max_replicas),
            "wanted": _integer((m,), info.max_replicas),
            "interference": _real((h, 4), 1.0),
            "e2e_ms": _real((c, 4), latency_ms),
            "window_p95_ms": _real((c,), latency_ms),
            "requests": _integer((c,), UNCOUNTED),
            "failed": _integer((c,), UNCOUNTED),
            "workload_rps": _real((c,), UNBOUNDED),
            "sla_ms": _real((1,), max(latency_ms, info.sla_ms)),
            "proportions": _real((m, h), 1.0),
            "connections": _integer((p,), n * n),
            "pair_share": _real(pair_share_shape(p, h), 1.0),
            "containers": _integer((n, 4), [UNCOUNTED, m - 1, h - 1, 1], low=-1),
            "container_usage": _real((n, 3), [UNBOUNDED, float(cpu.max()), horizon_s]),
            "critical_path": _real((m, 3), [1.0, 1.0, UNBOUNDED], low=[0.0, -1.0, 0.0]),
        }
    )


def proportions_space(info: ClusterInfo) -> spaces.Box:
    """Box (M, H) float32 in [0, 1]: share of a microservice's load per host."""
    return _real((len(info.microservices), len(info.hosts)), 1.0)


def connections_space() -> spaces.Graph:
    """Graph of `imbres_gym.action`: a node is a row of the container table, an edge a weight in [0, 1]."""
    return spaces.Graph(node_space=spaces.Discrete(1), edge_space=_real((1,), 1.0))


def replicas_space(info: ClusterInfo) -> spaces.MultiDiscrete:
    """MultiDiscrete (M,) int64 in [min_replicas, max_replicas]: wanted containers per microservice."""
    m = len(info.microservices)
    return spaces.MultiDiscrete(
        np.full(m, info.max_replicas - info.min_replicas + 1, np.int64),
        start=np.full(m, info.min_replicas, np.int64),
    )


def _real(shape: tuple[int, ...], high: ArrayLike, low: ArrayLike = 0.0) -> spaces.Box:
    lower, upper = (np.broadcast_to(np.asarray(bound, np.float32), shape).copy() for bound in (low, high))
    return spaces.Box(lower, upper, dtype=np.float32)


def _integer(shape: tuple[int, ...], high: ArrayLike, low: int = 0) -> spaces.Box:
    upper = np.broadcast_to(np.asarray(high, np.int64), shape).copy()
    return spaces.Box(np.full(shape, low, np.int64), upper, dtype=np.int64)
