"""Call trees of generated services: their shape, before it is known which microservice is called where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.alibaba.statistics import BranchingStatistics, CallStatistics

NEW_STAGE = 0.5
"""Chance that a call waits for its elder siblings instead of running beside them: estimate."""


@dataclass(frozen=True)
class Tree:
    """The calls of one service, callers before callees; call 0 is the end user's. All arrays are (n_calls,)."""

    parent: NDArray[np.int64]
    """Index of the calling call; -1 for call 0."""
    level: NDArray[np.int64]
    """1 for call 0."""
    is_store: NDArray[np.bool_]
    stage: NDArray[np.int64]
    """Stage of the caller in which the call is made, from 0 on."""
    repeat: NDArray[np.int64]
    """How often the call is made, one after another."""
    probability: NDArray[np.float64]
    """Chance that the call is made once its caller is reached [0-1]."""

    def pruned(self, kept: NDArray[np.bool_]) -> Tree:
        """The tree with only these calls; with a call go all below it. Call 0 stays."""
        index = np.cumsum(kept) - 1
        parent = np.where(self.parent[kept] < 0, -1, index[self.parent[kept]])
        return Tree(
            parent,
            self.level[kept],
            self.is_store[kept],
            self.stage[kept],
            self.repeat[kept],
            self.probability[kept],
        )

    def visits(self) -> NDArray[np.float64]:
        """(n_calls,) expected executions of each call per request."""
        visits = self.probability * self.repeat
        for call in range(1, len(visits)):
            visits[call] *= visits[self.parent[call]]
        return visits


def draw_tree(
    statistics: CallStatistics, branching: BranchingStatistics, most_calls: int, rng: np.random.Generator
) -> Tree:
    """Draw the call tree of a service.

    A typical service makes the calls of one request, in the shape of a real one. A large one (a share
    `large_share`) is a union of all that its requests may call: it grows by the calls per level of the whole trace to a
    size drawn from real unions, and each call has a chance drawn from them.

    Args:
        statistics: of call graphs.
        branching: of calls by level.
        most_calls: size that no tree exceeds.
        rng: source of the draws.
    """
    builder = _Builder(statistics, rng)
    if rng.random() >= statistics.large_share:
        shape = statistics.shapes[int(rng.choice(len(statistics.shapes), p=statistics.shape_chances))]
        _grow_as(builder, shape, most_calls)
        return builder.tree(np.ones(len(builder.parent)))
    size = float(np.interp(rng.random(), np.linspace(0.0, 1.0, len(statistics.large_sizes)), statistics.large_sizes))
    _grow_large(builder, branching, min(int(size), most_calls))
    n = len(builder.parent)
    bins = len(statistics.large_probability)
    drawn = (rng.choice(bins, n, p=statistics.large_probability) + rng.random(n)) / bins
    probability = np.round(np.maximum(drawn, 1e-3), 3)
    probability[0] = 1.0
    return builder.tree(np.asarray(probability, dtype=np.float64))


def _grow_as(builder: _Builder, shape: str, most_calls: int) -> None:
    """Let calls call as in a shape of `CallStatistics`, in the order of levels."""
    pending = [(0, shape)]
    for caller, below in pending:
        callees = parts_of(below)
        room = most_calls - len(builder.parent)
        others = [callee for callee in callees if callee != "s"][:room]
        stores = min(callees.count("s"), room - len(others))
        first = len(builder.parent) + stores
        builder.call_from(caller, stores, len(others))
        pending += [(first + index, callee) for index, callee in enumerate(others)]


def parts_of(shape: str) -> list[str]:
    """The shapes of what the first call of a shape calls: of "m(m(s)s)" that is "m(s)" and "s"."""
    found: list[str] = []
    depth = 0
    for letter in shape:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 1 and letter in "ms":
            found.append(letter)
        elif depth > 1 or (depth == 1 and letter == ")"):
            found[-1] += letter
    return found


def _grow_large(builder: _Builder, branching: BranchingStatistics, size: int) -> None:
    """Let calls call in random order until the size is reached; a tree that died out goes on at any microservice."""
    rng, open_calls, microservices = builder.rng, [0], [0]
    while len(builder.parent) < size:
        goes_on = bool(open_calls)
        caller = open_calls.pop(int(rng.integers(len(open_calls)))) if goes_on else int(rng.choice(microservices))
        row = min(builder.level[caller], len(branching.calls)) - 1
        if goes_on and caller != 0 and rng.random() < branching.leaf[row]:
            continue
        calls = min(int(branching.calls[row].draw(rng)), size - len(builder.parent))
        stores = int(rng.binomial(calls, branching.store_share[row]))
        called = list(range(len(builder.parent) + stores, len(builder.parent) + calls))
        builder.call_from(caller, stores, calls - stores)
        open_calls += called
        microservices += called


class _Builder:
    """A tree that grows."""

    def __init__(self, statistics: CallStatistics, rng: np.random.Generator) -> None:
        self.statistics, self.rng = statistics, rng
        self.parent, self.level, self.is_store, self.stage, self.repeat = [-1], [1], [False], [0], [1]

    def call_from(self, caller: int, stores: int, others: int) -> None:
        """Let a call make calls to distinct stores and microservices, in random order of stages."""
        n = stores + others
        stages = np.concatenate([[0], np.cumsum(self.rng.random(max(n - 1, 0)) < NEW_STAGE)])[:n]
        self.parent += [caller] * n
        self.level += [self.level[caller] + 1] * n
        self.is_store += [True] * stores + [False] * others
        self.stage += self.rng.permutation(stages).tolist()
        self.repeat += [int(self.statistics.store_repeats.draw(self.rng)) for _ in range(stores)]
        self.repeat += [int(self.statistics.microservice_repeats.draw(self.rng)) for _ in range(others)]

    def tree(self, probability: NDArray[np.float64]) -> Tree:
        """What has grown."""
        return Tree(
            np.array(self.parent),
            np.array(self.level),
            np.array(self.is_store),
            np.array(self.stage),
            np.array(self.repeat),
            probability,
        )
