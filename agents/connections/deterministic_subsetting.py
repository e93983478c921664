"""Deterministic subsetting: each upstream container takes one slice of a shuffled list of downstream containers.

From "Site Reliability Engineering" (O'Reilly 2016, chapter 20), with the rule for leftovers of gRPC's proposal A66.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from agents.connections.subsets import StableIndices, SubsetConnections
from agents.containers import Containers


class DeterministicSubsetting(SubsetConnections):
    """Subsets of k that cover the downstream containers round by round.

    The upstream containers of one round share out a shuffled list of the downstream containers: every one but the
    n mod k that the round leaves out gets exactly one of them. A downstream container that comes or goes changes the
    lists of all rounds, and with them most connections: this is the weakness that `Rocksteadier` mends.

    Calls follow the load proportions among the picks only.

    Args:
        k: downstream containers per upstream container, >= 1; ten as for random connection.

    Raises:
        ConfigError: k < 1.
    """

    def _forget(self, seed: int) -> None:
        self._clients = [StableIndices() for _ in self._info.microservices]

    def _picks(self, pair: int, up: Containers, down: Containers) -> list[NDArray[np.int64]]:
        index = self._clients[self._info.pairs[pair][0]].update(up.ids.tolist())
        return [subset(index[identity], len(down), self._k) for identity in up.ids.tolist()]


def subset(client: int, n: int, k: int) -> NDArray[np.int64]:
    """Places of the downstream containers that a client takes.

    Args:
        client: index of the upstream container, from 0.
        n: downstream containers.
        k: size of a subset.

    Returns:
        (min(k, n),) int64, sorted.
    """
    if n <= k:
        return np.arange(n)
    turn, place = divmod(client, n // k)
    return np.sort(shuffled(turn, n, n % k)[place * k : (place + 1) * k])


@lru_cache(maxsize=1024)
def shuffled(turn: int, n: int, leftovers: int) -> NDArray[np.int64]:
    """The downstream containers that round number `turn` shares out, in its order: all n but the leftovers."""
    # A66: those that a round leaves out move on from round to round, so that all are left out alike.
    left_out = (turn * leftovers + np.arange(leftovers)) % n
    return np.random.default_rng(turn).permutation(np.setdiff1d(np.arange(n), left_out))
