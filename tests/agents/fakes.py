"""Small made-up clusters and observations for the tests of agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.connections.matching import match, order_receivers, order_senders
from imbres_gym.observation import Observation
from imbres_gym.plan import Links, balanced_proportions
from imbres_gym.telemetry import ClusterInfo


def make_info(microservices: int = 2, hosts: int = 2, **changes: Any) -> ClusterInfo:
    """A chain of microservices: each calls the next."""
    values: dict[str, Any] = {
        "microservices": tuple(f"service-{i}" for i in range(microservices)),
        "hosts": tuple(f"host-{j}" for j in range(hosts)),
        "classes": ("read",),
        "pairs": tuple((i, i + 1) for i in range(microservices - 1)),
        "entries": (0,),
        "called": (tuple(range(microservices)),) * len(changes.get("classes", ("read",))),
        "cores": np.full(microservices, 0.1),
        "memory_mb": np.full(microservices, 200.0),
        "host_cores": 100.0,
        "sla_ms": 100.0,
        "control_interval_s": 5.0,
        "scaling_interval_s": 60.0,
        "min_replicas": 1,
        "max_replicas": 50,
        "max_containers": 400,
        "connections_per_container": 10,
        "startup_s": 5.0,
        "initial_replicas": np.full(microservices, 4, np.int64),
    }
    return ClusterInfo(**{**values, **changes})


def make_observation(info: ClusterInfo, ready: Sequence[Sequence[int]], **changes: Any) -> Observation:
    """An uneventful interval with `ready` (M, H) containers; any key of the observation can be replaced.

    Containers get the ids 0, 1, ... in the order microservice, host.
    """
    counts = np.array(ready, np.int64)
    m, h = counts.shape
    c, p, n = len(info.classes), len(info.pairs), info.max_containers
    containers = np.full((n, 4), -1, np.int64)
    usage = np.zeros((n, 3), np.float32)
    where = [(i, j) for i in range(m) for j in range(h) for _ in range(counts[i, j])]
    for row, (i, j) in enumerate(where):
        containers[row] = row, i, j, 1
        usage[row] = 10.0, 0.5, 1000.0
    values: dict[str, Any] = {
        "time_s": [5.0],
        "own_latency_ms": np.full((m, h), 10.0),
        "own_p95_ms": np.full((m, h), 20.0),
        "load_rps": 10.0 * counts,
        "samples": 50 * counts,
        "age_s": np.zeros((m, h)),
        "cpu_utilisation": np.full((m, h), 0.5),
        "microservice_p95_ms": np.full(m, 20.0),
        "ready": counts,
        "pending": np.zeros((m, h)),
        "wanted": counts.sum(axis=1),
        "interference": np.full((h, 4), 0.3),
        "e2e_ms": np.full((c, 4), 50.0),
        "window_p95_ms": np.full(c, 80.0),
        "requests": np.full(c, 500),
        "failed": np.zeros(c),
        "workload_rps": np.full(c, 100.0),
        "sla_ms": [info.sla_ms],
        "proportions": balanced_proportions(counts),
        "connections": np.zeros(p),
        "pair_share": np.zeros((p, h, h)),
        "containers": containers,
        "container_usage": usage,
        "critical_path": np.zeros((m, 3)),
    }
    unknown = changes.keys() - values.keys()
    assert not unknown, f"an observation has no {unknown}"
    values.update(changes)
    return {name: np.asarray(value, _dtype(name)) for name, value in values.items()}


def _dtype(name: str) -> type[np.generic]:
    integers = ("samples", "ready", "pending", "wanted", "requests", "failed", "connections", "containers")
    return np.int64 if name in integers else np.float32


def match_shares(
    upstream: NDArray[np.int64],
    sent: NDArray[np.float64],
    downstream: NDArray[np.int64],
    received: NDArray[np.float64],
    group: NDArray[np.int64] | None = None,
) -> Links:
    """Match one pair, from the ids and shares of both sides and any labels of groups."""
    labels = None if group is None else np.unique(group, return_inverse=True)[1]
    return match(order_senders(upstream, sent, labels), order_receivers(downstream, received))


def batch(observations: Sequence[Observation]) -> Observation:
    """Observations of several environments as one, with a leading axis."""
    return {name: np.stack([one[name] for one in observations]) for name in observations[0]}
