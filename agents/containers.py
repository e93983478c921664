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
    """The ready containers of one microservice, sorted by id.

    Attributes:
        ids: (n,) int64, container ids.
        hosts: (n,) int64, host index of each.
    """

    ids: NDArray[np.int64]
    hosts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def ready_containers(observation: Observation) -> list[Containers]:
    """The ready containers of every microservice, in the order of the microservices."""
    table = np.asarray(observation["containers"], np.int64)
    ready = table[(table[:, 0] >= 0) & (table[:, 3] == 1)]
    ready = ready[np.argsort(ready[:, 0], kind="stable")]
    of_microservice = [ready[ready[:, 1] == index] for index in range(observation["ready"].shape[0])]
    return [Containers(rows[:, 0].copy(), rows[:, 2].copy()) for rows in of_microservice]


def container_shares(containers: Containers, proportions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the microservice's load that each container gets: D_j / S_j, normalised; equal if all are zero.

    Args:
        containers: n >= 1 containers of one microservice.
        proportions: (H,) load proportions of the microservice [0-1].

    Returns:
        (n,) float64 [0-1], sums to 1.
    """
    per_host = np.bincount(containers.hosts, minlength=len(proportions))
    shares: NDArray[np.float64] = proportions[containers.hosts] / per_host[containers.hosts]
    if shares.sum() <= 0.0:
        shares = np.ones(len(containers))
    shares /= shares.sum()
    return shares


def connected_pairs(
    observation: Observation, info: ClusterInfo
) -> Iterator[tuple[int, tuple[int, int], Containers, Containers]]:
    """Pair index, its (upstream, downstream) microservices, and the ready containers of both, where both have some."""
    containers = ready_containers(observation)
    for pair, (upstream, downstream) in enumerate(info.pairs):
        up, down = containers[upstream], containers[downstream]
        if len(up) > 0 and len(down) > 0:
            yield pair, (upstream, downstream), up, down


def cpu_use(observation: Observation) -> NDArray[np.float64]:
    """(M,) CPU use of each microservice's ready containers as a share of their quota; 0 without any."""
    ready = observation["ready"]
    used = (observation["cpu_utilisation"] * ready).sum(axis=1)
    return np.asarray(used / np.maximum(ready.sum(axis=1), 1), np.float64)
