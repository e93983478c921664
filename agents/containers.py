"""The containers of an observation, per microservice: who takes requests, where, with which share, how busy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo


@dataclass(frozen=True)
class Containers:
    """The ready containers of one microservice, sorted by id, and what each is to receive.

    Attributes:
        ids: (n,) int64, container ids.
        hosts: (n,) int64, host index of each.
        shares: (n,) float64 [0-1], share of the microservice's load of each, see `container_shares`.
    """

    ids: NDArray[np.int64]
    hosts: NDArray[np.int64]
    shares: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)


def ready_containers(observation: Observation, proportions: NDArray[np.float64]) -> list[Containers]:
    """The ready containers of every microservice, in the order of the microservices.

    The table is sorted once, and each microservice has a slice of it: O(N log N) for N containers.

    Args:
        observation: with the container table.
        proportions: (M, H) load proportions that are to hold [0-1].
    """
    table = np.asarray(observation["containers"], np.int64)
    ids, microservice, hosts = table[(table[:, 0] >= 0) & (table[:, 3] == 1), :3].T
    order = np.argsort(ids, kind="stable")
    # Of indices that fit into 16 bits NumPy makes a radix sort, eight times as fast.
    small = microservice[order].astype(np.min_scalar_type(len(proportions)))
    order = order[np.argsort(small, kind="stable")]
    ids, hosts = ids[order], hosts[order]
    ends = np.cumsum(np.bincount(microservice, minlength=len(proportions))).tolist()
    slices = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    return [
        Containers(ids[part], hosts[part], container_shares(hosts[part], row))
        for part, row in zip(slices, proportions, strict=True)
    ]


def container_shares(hosts: NDArray[np.int64], proportions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the microservice's load that each container gets: D_j / S_j, normalised; equal if all are zero.

    Args:
        hosts: (n,) host index of each container of one microservice.
        proportions: (H,) load proportions of the microservice [0-1].

    Returns:
        (n,) float64 [0-1], sums to 1 if there are containers.
    """
    per_host = np.bincount(hosts, minlength=len(proportions))
    shares: NDArray[np.float64] = proportions[hosts] / per_host[hosts]
    total = shares.sum()
    if total <= 0.0:
        return np.full(len(hosts), 1.0 / max(len(hosts), 1))
    shares /= total
    return shares


def connected_pairs(
    containers: list[Containers], info: ClusterInfo
) -> Iterator[tuple[int, tuple[int, int], Containers, Containers]]:
    """Pair index, its (upstream, downstream) microservices, and the ready containers of both, where both have some."""
    for pair, (upstream, downstream) in enumerate(info.pairs):
        up, down = containers[upstream], containers[downstream]
        if len(up) > 0 and len(down) > 0:
            yield pair, (upstream, downstream), up, down


def cpu_use(observation: Observation) -> NDArray[np.float64]:
    """(M,) CPU use of each microservice's ready containers as a share of their quota; 0 without any."""
    ready = observation["ready"]
    used = (observation["cpu_utilisation"] * ready).sum(axis=1)
    return np.asarray(used / np.maximum(ready.sum(axis=1), 1), np.float64)
