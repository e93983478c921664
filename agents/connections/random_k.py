"""Random partial connection: each upstream container picks k downstream containers uniformly at random.

This is what the paper's baselines use (Imbres section 2.3: production clusters connect to a random subset).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.connections.subsets import SubsetConnections
from agents.containers import Containers


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
        self._salt = np.random.default_rng(seed).integers(0, 2**64, 1, dtype=np.uint64)

    def _picks(self, pair: int, up: Containers, down: Containers) -> list[NDArray[np.int64]]:
        draws = _draws(up.ids, down.ids, self._salt)
        return list(np.sort(np.argsort(draws, axis=1, kind="stable")[:, : self._k], axis=1))


def _draws(upstream: NDArray[np.int64], downstream: NDArray[np.int64], salt: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(N_up, N_down) random numbers that depend on nothing but the two ids and the salt."""
    return _mix(_mix(upstream.astype(np.uint64) ^ salt)[:, None] ^ downstream.astype(np.uint64)[None, :])


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits: one step of the SplitMix64 generator (Steele, Lea and Flood, OOPSLA 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
