"""A made-up cluster of any size, for `benchmark_scale.py`: what an agent would see of it, without a simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.observation import Observation
from imbres_gym.plan import balanced_proportions
from imbres_gym.telemetry import ClusterInfo, pair_share_shape

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """Size of a cluster; the defaults are those of a large production cluster, with some 3 million connections.

    Attributes:
        hosts, microservices, containers: how many.
        pairs: (upstream, downstream) pairs of microservices; at least microservices - 1.
        budget: connections of a pair, per downstream container: pairs * budget * containers / microservices in all.
    """

    hosts: int = 4000
    microservices: int = 1500
    containers: int = 300_000
    pairs: int = 3000
    budget: int = 5


class MadeUpCluster:
    """Containers on random hosts, and measurements that look like those of a cluster under interference.

    Containers per microservice are log-normal (sigma 1, from tens to many hundreds); interference is uniform from 5 to
    80 % per host; the latency of a container rises with interference and load, with 10 % of noise. All are estimates:
    only their number and spread matter to the time of a decision.

    Args:
        size: of the cluster.
        seed: of everything random.
    """

    def __init__(self, size: Size, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._size = size
        counts = self._counts()
        microservice = np.repeat(np.arange(size.microservices), counts)
        self._rng.shuffle(microservice)  # ids rise with creation, and microservices grow at the same time
        host = self._rng.integers(0, size.hosts, size.containers)
        self._containers = np.stack(
            [np.arange(size.containers), microservice, host, np.ones(size.containers, np.int64)], axis=1
        )
        cells = microservice * size.hosts + host
        self._ready = np.bincount(cells, minlength=size.microservices * size.hosts).reshape(-1, size.hosts)
        self._cells = np.flatnonzero(self._ready)
        self._per_container_rps = self._rng.uniform(20.0, 80.0, size.microservices)
        self._base_ms = self._rng.uniform(2.0, 20.0, size.microservices)
        self._interference = self._rng.uniform(0.05, 0.8, (size.hosts, 4)).astype(np.float32)
        self._proportions = balanced_proportions(self._ready)
        self.info = self._info(counts)

    def observe(self, time_s: float, action: dict[str, NDArray[np.float32]] | None = None) -> Observation:
        """What is seen at the end of an interval in which the load proportions of `action` were in force."""
        if action is not None:
            self._proportions = action["proportions"].astype(np.float64)
        size, shape = self._size, self._ready.shape
        row, host = np.divmod(self._cells, size.hosts)
        ready = self._ready.ravel()[self._cells]
        total_rps = self._per_container_rps * self._ready.sum(axis=1)
        load = total_rps[row] * self._proportions.ravel()[self._cells]
        busy = load / ready / self._per_container_rps[row]
        noise = self._rng.uniform(0.9, 1.1, len(row))
        latency = self._base_ms[row] * (0.5 + self._interference[host, 0] + busy) * noise
        containers = size.containers

        def spread(values: NDArray[np.generic], dtype: type[np.generic]) -> NDArray[np.generic]:
            dense = np.zeros(shape, dtype)
            dense.ravel()[self._cells] = values
            return dense

        tail = np.zeros(size.microservices)
        np.maximum.at(tail, row, 2.0 * latency)
        return {
            "time_s": np.array([time_s], np.float32),
            "own_latency_ms": spread(latency, np.float32),
            "own_p95_ms": spread(2.0 * latency, np.float32),
            "load_rps": spread(load, np.float32),
            "samples": spread(np.ceil(5.0 * load), np.int64),
            "age_s": np.zeros(shape, np.float32),
            "cpu_utilisation": spread(0.3 * busy, np.float32),
            "microservice_p95_ms": tail.astype(np.float32),
            "ready": self._ready.copy(),
            "pending": np.zeros(shape, np.int64),
            "wanted": self._ready.sum(axis=1),
            "interference": self._interference.copy(),
            "e2e_ms": np.full((1, 4), 100.0, np.float32),
            "window_p95_ms": np.array([2.0 * self.info.sla_ms], np.float32),
            "requests": np.array([100_000]),
            "failed": np.array([0]),
            "workload_rps": np.array([20_000.0], np.float32),
            "sla_ms": np.array([self.info.sla_ms], np.float32),
            "proportions": self._proportions.astype(np.float32),
            "connections": np.zeros(len(self.info.pairs), np.int64),
            "pair_share": np.zeros(pair_share_shape(len(self.info.pairs), size.hosts), np.float32),
            "containers": self._containers.copy(),
            "container_usage": np.ones((containers, 3), np.float32),
            "critical_path": np.zeros((size.microservices, 3), np.float32),
        }

    def _counts(self) -> NDArray[np.int64]:
        """Containers of each microservice, at least one: log-normal, and as many in all as there are to be."""
        weight = self._rng.lognormal(0.0, 1.0, self._size.microservices).clip(0.1, 8.0)
        spare = self._size.containers - self._size.microservices
        ends = np.round(np.cumsum(weight) / weight.sum() * spare).astype(np.int64)
        return 1 + np.diff(ends, prepend=0)

    def _info(self, counts: NDArray[np.int64]) -> ClusterInfo:
        size = self._size
        return ClusterInfo(
            microservices=tuple(f"service-{i}" for i in range(size.microservices)),
            hosts=tuple(f"host-{j}" for j in range(size.hosts)),
            classes=("request",),
            pairs=self._pairs(),
            entries=(0,),
            called=(tuple(range(size.microservices)),),
            cores=np.full(size.microservices, 4.0),
            memory_mb=np.full(size.microservices, 8192.0),
            host_cores=96.0,
            sla_ms=200.0,
            control_interval_s=5.0,
            scaling_interval_s=60.0,
            min_replicas=1,
            max_replicas=2 * int(counts.max()),
            max_containers=size.containers,
            connections_per_container=size.budget,
            startup_s=5.0,
            initial_replicas=counts,
        )

    def _pairs(self) -> tuple[tuple[int, int], ...]:
        """A call graph: each microservice is called by a random earlier one, and further pairs go the same way."""
        count = self._size.microservices
        pairs = {(int(self._rng.integers(0, i)), i) for i in range(1, count)}
        most = min(self._size.pairs, count * (count - 1) // 2)
        while len(pairs) < most:
            down = int(self._rng.integers(1, count))
            pairs.add((int(self._rng.integers(0, down)), down))
        return tuple(sorted(pairs))
