"""Random partial connection: each upstream container picks k downstream containers uniformly at random.

This is what the paper's baselines use (Imbres section 2.3: production clusters connect to a random subset).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.connections.subsets import SubsetConnections
from agents.containers import Containers
from imbres_gym.jit import compiled

Ints = NDArray[np.int64]


class RandomConnections(SubsetConnections):
    """A random subset per upstream container, stable over time.

    Every (upstream, downstream) pair of containers draws a random number once; an upstream container talks to the k
    downstream containers with the lowest numbers (rendezvous hashing, as in gRPC's random subsetting). So it keeps its
    picks until one disappears or a new container draws a lower number, and any subset is equally likely.

    Its calls follow the load proportions among its picks only, so what a downstream container receives in total
    differs from its proportion: that is the weakness the paper points at.

    Args:
        k: downstream containers per upstream container, >= 1; the paper's 10.

    Raises:
        ConfigError: k < 1.
    """

    def _forget(self, seed: int) -> None:
        self._salt = np.random.default_rng(seed).integers(0, 2**64, dtype=np.uint64)

    def _picks(self, pair: int, up: Containers, down: Containers) -> list[Ints]:
        return list(_lowest(up.ids, down.ids, self._salt, min(self._k, len(down))))


@compiled
def _lowest(upstream: Ints, downstream: Ints, salt: np.uint64, k: int) -> Ints:
    """(N_up, k) the places of the downstream containers with the lowest numbers, sorted.

    The number of two containers depends on nothing but the two ids and the salt.
    """
    places, lowest = np.empty((len(upstream), k), np.int64), np.empty(k, np.uint64)
    for i in range(len(upstream)):
        start, count = _mix(np.uint64(upstream[i]) ^ salt), 0
        for j in range(len(downstream)):
            number = _mix(start ^ np.uint64(downstream[j]))
            if count == k and number >= lowest[k - 1]:
                continue
            place = min(count, k - 1)
            while place > 0 and number < lowest[place - 1]:
                lowest[place], places[i, place] = lowest[place - 1], places[i, place - 1]
                place -= 1
            lowest[place], places[i, place] = number, j
            count = min(count + 1, k)
        places[i].sort()
    return places


@compiled
def _mix(x: np.uint64) -> np.uint64:
    """Scramble 64 bits: one step of the SplitMix64 generator (Steele, Lea and Flood, OOPSLA 2014)."""
    x += np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
