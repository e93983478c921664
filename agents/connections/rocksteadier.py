"""Rocksteadier: subsets that are balanced and change little (Ward, Wankadia and Guliani, ACM Queue 20(5), 2022).

The article's figures leave room; where the text is silent, the reading here is said in a comment.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from agents.connections.subsets import StableIndices, SubsetConnections
from agents.containers import Containers

LOT = 10
"""Containers of a lot, upstream and downstream: the article's L."""


class Rocksteadier(SubsetConnections):
    """Subsets of k by lots: the upstream containers of a lot take different containers of every downstream lot.

    Containers have indices that stay with them, and a lot of downstream containers with gaps is padded. Each upstream
    lot shuffles the places of a downstream lot in its own way; its container number p takes place p of the shuffle, so
    that together they take each container once. The downstream lots stand on a ring, at the positions of the binary
    van der Corput sequence ("Ringsteady"), which spread evenly however many there are; an upstream container walks
    the ring from a start of its own until it has k. Who comes or goes changes only who picked it.

    Calls follow the load proportions among the picks only.

    Args:
        k: downstream containers per upstream container, >= 1.

    Raises:
        ConfigError: k < 1.
    """

    def _forget(self, seed: int) -> None:
        self._indices = [StableIndices() for _ in self._info.microservices]

    def _picks(self, pair: int, up: Containers, down: Containers) -> list[NDArray[np.int64]]:
        upstream, downstream = self._info.pairs[pair]
        clients = self._indices[upstream].update(up.ids.tolist())
        backends = self._indices[downstream].update(down.ids.tolist())
        place_of = {backends[identity]: place for place, identity in enumerate(down.ids.tolist())}
        return [subset(clients[identity], place_of, self._k) for identity in up.ids.tolist()]


def subset(client: int, place_of: dict[int, int], k: int) -> NDArray[np.int64]:
    """Places of the downstream containers that a client takes.

    Args:
        client: index of the upstream container, from 0.
        place_of: index of each downstream container -> its place.
        k: size of a subset.

    Returns:
        (min(k, n),) int64, sorted.
    """
    lot, position = divmod(client, LOT)
    shuffled = np.random.default_rng(lot).permutation(LOT)
    # Text: frontends inside a lot are spread over the ring as lots are. Reading: both offsets add up.
    walk = ring_walk((van_der_corput(lot) + van_der_corput(position)) % 1.0, max(place_of) // LOT + 1)
    taken: list[int] = []
    # With fewer than k lots one round is not enough. Reading: the next one takes the next place of the shuffle.
    for turn in range(LOT):
        place_in_lot = int(shuffled[(position + turn) % LOT])
        for backend_lot in walk:
            index = backend_lot * LOT + place_in_lot
            if index in place_of:
                taken.append(place_of[index])
                if len(taken) == k:
                    return np.sort(np.array(taken))
    return np.sort(np.array(taken))


@cache
def ring_walk(start: float, lots: int) -> tuple[int, ...]:
    """The lots 0 ... lots - 1 in the order in which they follow `start` [0-1) on the ring."""
    return tuple(sorted(range(lots), key=lambda lot: (van_der_corput(lot) - start) % 1.0))


def van_der_corput(index: int) -> float:
    """Element of the binary van der Corput sequence, [0, 1): 0, 1/2, 1/4, 3/4, 1/8, ...: the bits mirrored."""
    value, weight = 0.0, 0.5
    while index:
        value += weight * (index & 1)
        index >>= 1
        weight /= 2.0
    return value
