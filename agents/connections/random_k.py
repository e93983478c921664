"""Random partial connection: each upstream container picks k downstream containers uniformly at random.

This is what the paper's baselines use (Imbres section 2.3: production clusters connect to a random subset).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.connections.subsets import links_of_picks
from agents.containers import connected_pairs
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan, Links
from imbres_gym.telemetry import ClusterInfo


class RandomConnections:
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

    def __init__(self, *, k: int = 10) -> None:
        if k < 1:
            raise ConfigError(f"k: {k} must be at least 1")
        self._k = k

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """New random numbers."""
        self._info = info
        self._salt = np.random.default_rng(seed).integers(0, 2**64, 1, dtype=np.uint64)

    def connect(self, observation: Observation, proportions: NDArray[np.float64]) -> ConnectionPlan:
        """Links of every pair whose microservices both have ready containers: N_up * min(k, N_down) each."""
        plan: dict[int, Links] = {}
        for pair, (_, downstream), up, down in connected_pairs(observation, self._info):
            k = min(self._k, len(down))
            draws = _draws(up.ids, down.ids, self._salt)
            picks = np.sort(np.argsort(draws, axis=1, kind="stable")[:, :k], axis=1)
            plan[pair] = links_of_picks(up, down, list(picks), proportions[downstream])
        return ConnectionPlan(plan)


def _draws(upstream: NDArray[np.int64], downstream: NDArray[np.int64], salt: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(N_up, N_down) random numbers that depend on nothing but the two ids and the salt."""
    return _mix(_mix(upstream.astype(np.uint64) ^ salt)[:, None] ^ downstream.astype(np.uint64)[None, :])


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits: one step of the SplitMix64 generator (Steele, Lea and Flood, OOPSLA 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
