"""What the subsetting policies share: the plan of their picks, and indices that stay with containers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.containers import Containers, connected_pairs, ready_containers
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan, Links
from imbres_gym.telemetry import ClusterInfo


class SubsetConnections(ABC):
    """Each upstream container talks to k downstream containers; its calls follow the load proportions among these.

    Args:
        k: downstream containers per upstream container, >= 1; ten as the paper's baselines have.

    Raises:
        ConfigError: k < 1.
    """

    def __init__(self, *, k: int = 10) -> None:
        if k < 1:
            raise ConfigError(f"k: {k} must be at least 1")
        self._k = k

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """A new episode starts."""
        self._info = info
        self._known: dict[int, _Picks] = {}
        self._forget(seed)

    def connect(self, observation: Observation, proportions: NDArray[np.float64]) -> ConnectionPlan:
        """Links of every pair whose microservices both have ready containers: N_up * min(k, N_down) each."""
        containers = ready_containers(observation, proportions)
        return ConnectionPlan(
            {
                pair: _links(up, down, self._known_picks(pair, up, down))
                for pair, _, up, down in connected_pairs(containers, self._info)
            }
        )

    def _known_picks(self, pair: int, up: Containers, down: Containers) -> _Picks:
        """The picks of a pair; those of the last time where the containers are the same."""
        known = self._known.get(pair)
        if known and np.array_equal(known.up, up.ids) and np.array_equal(known.down, down.ids):
            return known
        picks = self._picks(pair, up, down)
        owner = np.repeat(np.arange(len(up)), [len(mine) for mine in picks])
        self._known[pair] = _Picks(up.ids, down.ids, owner, np.concatenate(picks))
        return self._known[pair]

    @abstractmethod
    def _forget(self, seed: int) -> None:
        """Forget the containers of the last episode."""

    @abstractmethod
    def _picks(self, pair: int, up: Containers, down: Containers) -> list[NDArray[np.int64]]:
        """Places of `down` that each upstream container picks, at least one; asked for when containers change."""


class _Picks(NamedTuple):
    """Who picked whom in a pair."""

    up: NDArray[np.int64]  # (n,) ids of upstream containers
    down: NDArray[np.int64]  # (m,) of downstream ones
    owner: NDArray[np.int64]  # (links,) place of the upstream container
    picked: NDArray[np.int64]  # (links,) and of the downstream one


class StableIndices:
    """Numbers containers 0, 1, ... as tasks are numbered: a container keeps its index, a free one goes to the next.

    So there may be gaps where containers have gone, until others come.
    """

    def __init__(self) -> None:
        self._index: dict[int, int] = {}

    def update(self, ids: Iterable[int]) -> dict[int, int]:
        """Index of each of the containers that there are now; the lowest free ones for those that are new."""
        present = list(ids)
        self._index = {identity: self._index[identity] for identity in present if identity in self._index}
        taken = set(self._index.values())
        free = (index for index in range(len(taken) + len(present)) if index not in taken)
        for identity in present:
            if identity not in self._index:
                self._index[identity] = next(free)
        return self._index


def _links(up: Containers, down: Containers, picks: _Picks) -> Links:
    """Links of upstream containers to their picks, weighted by the downstream shares among these."""
    owner, weight = picks.owner, down.shares[picks.picked]
    total = np.bincount(owner, weight, len(up))
    counts = np.bincount(owner, minlength=len(up))
    nothing = total <= 0.0  # calls follow no proportions then
    weight[nothing[owner]] = 1.0
    return Links(up.ids[owner], down.ids[picks.picked], weight / np.where(nothing, counts, total)[owner])
