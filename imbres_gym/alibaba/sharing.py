"""Which microservice is called where: a few are shared by many callers (hot spots), most have one.

Every call of a generated tree goes to a new microservice with the chance (theta + sigma * K) / (theta + n), with K the
microservices and n the calls so far, else to an existing one with a chance in proportion to its calls less sigma (the
two-parameter Chinese restaurant process of Pitman and Yor 1997). The number of calls per microservice then has a
power-law tail of exponent sigma. Every microservice has a rank above that of its first caller, and only microservices
of higher rank are called, so that no two depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.alibaba.trees import Tree

TAIL = 0.7
"""sigma: estimate. 5 % of all microservices with more than 16 callers each would be the limit of long sharing."""
NEW_SHARE = 0.4
"""theta, as a share of the microservices wanted: estimate, which gives about two calls in call trees for each."""
ENTRIES = 0.13
"""Share of microservices that end users call: Winchester et al. 2025 (arXiv 2504.13141), Table 1, of 67,760."""


STORE, DROPPED = -1, -2
"""What stands for a microservice where a call goes to a store, and where it is left out."""


@dataclass(frozen=True)
class SharedTrees:
    """Trees of services, and the microservice of each call."""

    trees: tuple[Tree, ...]
    microservice: tuple[NDArray[np.int64], ...]
    """For each tree (n_calls,): index of the microservice; -1 for a call to a store."""
    n_microservices: int

    def calls(self) -> Iterator[tuple[int, int, int]]:
        """Every (service, call, microservice) that is no store."""
        for service, targets in enumerate(self.microservice):
            for call in np.flatnonzero(targets >= 0).tolist():
                yield service, call, int(targets[call])

    def pairs(self) -> NDArray[np.int64]:
        """(P, 2) upstream and downstream microservices, each pair once, sorted."""
        found = [
            np.stack([targets[tree.parent[called]], targets[called]], axis=1)
            for tree, targets in zip(self.trees, self.microservice, strict=True)
            for called in [np.flatnonzero((targets >= 0) & (tree.parent >= 0))]
        ]
        return np.unique(np.concatenate(found), axis=0)


def share_microservices(trees: Iterator[Tree], n_microservices: int, rng: np.random.Generator) -> SharedTrees:
    """Take trees until exactly `n_microservices` are called, and say which call goes to which.

    Once all are there, a call for whose caller none of higher rank is left is dropped from its tree.

    Args:
        trees: as many as are needed.
        n_microservices: at least 1.
        rng: source of the draws.
    """
    taken: list[Tree] = []
    targets: list[NDArray[np.int64]] = []
    crowd = _Crowd(n_microservices, rng)
    while crowd.count < n_microservices:
        tree = next(trees)
        target = _assign(tree, crowd)
        kept = target != DROPPED
        taken.append(tree.pruned(kept))
        targets.append(target[kept])
    return SharedTrees(tuple(taken), tuple(targets), crowd.count)


def _assign(tree: Tree, crowd: _Crowd) -> NDArray[np.int64]:
    target = np.full(len(tree.parent), STORE, dtype=np.int64)
    target[0] = crowd.entry()
    siblings: dict[int, list[int]] = {}
    for call in range(1, len(target)):
        caller = int(tree.parent[call])
        if target[caller] == DROPPED:
            target[call] = DROPPED
        elif not tree.is_store[call]:
            others = siblings.setdefault(caller, [])
            target[call] = crowd.callee(int(target[caller]), others)
            others.append(int(target[call]))
    return target


class _Crowd:
    """The microservices so far."""

    def __init__(self, wanted: int, rng: np.random.Generator) -> None:
        self.rng, self.wanted, self.theta = rng, wanted, max(1.0, NEW_SHARE * wanted)
        self.count = self.entries = 0
        self.placed = 0
        self.rank, self.calls = np.zeros(wanted), np.zeros(wanted)
        self.is_entry = np.zeros(wanted, dtype=bool)

    def entry(self) -> int:
        """The microservice that a service's end users call."""
        if self.count < self.wanted and self.entries <= ENTRIES * self.count:
            self.entries += 1
            return self._new(float(self.rng.random()) - 1.0, True)
        return self._existing(self.is_entry[: self.count])

    def callee(self, caller: int, siblings: list[int]) -> int:
        """A microservice that `caller` calls, none of those that the same call goes to already; or `DROPPED`."""
        allowed = (self.rank[: self.count] > self.rank[caller]) & ~self.is_entry[: self.count]
        allowed[[sibling for sibling in siblings if sibling != DROPPED]] = False
        chance_of_new = (self.theta + TAIL * self.count) / (self.theta + self.placed)
        if self.count < self.wanted and (self.rng.random() < chance_of_new or not allowed.any()):
            return self._new(float(self.rank[caller] + self.rng.random()), False)
        return self._existing(allowed) if allowed.any() else DROPPED

    def _new(self, rank: float, is_entry: bool) -> int:
        index = self.count
        self.rank[index], self.is_entry[index], self.calls[index] = rank, is_entry, 1.0
        self.count += 1
        self.placed += 1
        return index

    def _existing(self, allowed: NDArray[np.bool_]) -> int:
        weights = np.cumsum(np.where(allowed, self.calls[: self.count] - TAIL, 0.0))
        index = int(np.searchsorted(weights, self.rng.random() * weights[-1], side="right"))
        self.calls[index] += 1.0
        self.placed += 1
        return index
