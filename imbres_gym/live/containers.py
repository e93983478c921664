"""The container table of a live cluster: pods get numbers, as `Telemetry` wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.live.observer import Pod
from imbres_gym.live.routes import Table
from imbres_gym.telemetry import ClusterInfo

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Containers:
    """The pods that are on a known node, by id (N of them).

    Attributes:
        pods: the pods.
        id: (N,) rising.
        microservice, host: (N,) indices.
        ready: (N,) bool.
        age_s: (N,) since this controller saw them first.
        shape: (M, H).
        elsewhere: pods that have no node yet.
        unknown_host: pods on nodes that joined after the start: they are not controlled.
    """

    pods: tuple[Pod, ...]
    id: Ints
    microservice: Ints
    host: Ints
    ready: NDArray[np.bool_]
    age_s: NDArray[np.float64]
    shape: tuple[int, int]
    elsewhere: int
    unknown_host: int

    def table(self) -> Table:
        """Those that take requests."""
        return Table(self.id[self.ready], self.microservice[self.ready], self.host[self.ready], self.shape)

    def by_id(self) -> dict[int, Pod]:
        """Id -> pod."""
        return dict(zip(self.id.tolist(), self.pods, strict=True))

    def counts(self, ready: bool) -> Ints:
        """(M, H) containers that take requests, or that do not yet."""
        chosen = self.ready == ready
        counts = np.zeros(self.shape, np.int64)
        np.add.at(counts, (self.microservice[chosen], self.host[chosen]), 1)
        return counts


class ContainerRegistry:
    """Gives every pod a number at first sight, in the order of creation.

    A pod's age is counted from then, by this machine's clock: times of creation are by the API server's.

    Args:
        info: names and order of microservices and hosts.
    """

    def __init__(self, info: ClusterInfo) -> None:
        self._microservices = {name: index for index, name in enumerate(info.microservices)}
        self._hosts = {name: index for index, name in enumerate(info.hosts)}
        self._shape = len(info.microservices), len(info.hosts)
        self._ids: dict[str, int] = {}
        self._born_s: dict[str, float] = {}
        self._next = 0

    def number(self, pods: Sequence[Pod], now_s: float) -> Containers:
        """The container table of these pods, which come in the order of creation."""
        for pod in pods:
            if pod.uid not in self._ids:
                self._ids[pod.uid] = self._next
                self._born_s[pod.uid] = now_s
                self._next += 1
        alive = {pod.uid for pod in pods}
        for gone in self._ids.keys() - alive:
            del self._ids[gone], self._born_s[gone]
        placed = sorted((pod for pod in pods if pod.node in self._hosts), key=lambda pod: self._ids[pod.uid])
        without_node = sum(not pod.node for pod in pods)
        return Containers(
            pods=tuple(placed),
            id=np.array([self._ids[pod.uid] for pod in placed], np.int64),
            microservice=np.array([self._microservices[pod.microservice] for pod in placed], np.int64),
            host=np.array([self._hosts[pod.node] for pod in placed], np.int64),
            ready=np.array([pod.ready for pod in placed], np.bool_),
            age_s=np.array([now_s - self._born_s[pod.uid] for pod in placed], np.float64),
            shape=self._shape,
            elsewhere=without_node,
            unknown_host=len(pods) - len(placed) - without_node,
        )
