"""Imbres' algorithms as one would write them down first: per microservice, host and pair, with dictionaries.

The second opinion of `test_same_plan.py`; far too slow for a large cluster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.connections.matching import MIN_SHARE, TOLERANCE
from agents.latency_store import FLOOR_MS
from agents.load.imbres import MAX_FACTOR, MIN_FACTOR
from imbres_gym.observation import Observation
from imbres_gym.plan import Links

Key = tuple[int, ...]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def shift_load(D: Floats, S: Floats, l: Floats, fresh: NDArray[np.bool_], eta: float, floor: float) -> Floats:  # noqa: E741
    """Lines 6-10 of Algorithm 1, one microservice after the other, over the hosts that have containers of it."""
    result = np.zeros_like(D)
    for i in range(len(D)):
        hosts = [j for j in range(D.shape[1]) if S[i, j] > 0]
        measured = [j for j in hosts if fresh[i, j]]
        mean = sum(l[i, j] for j in measured) / len(measured) if measured else 0.0
        moved = {j: D[i, j] for j in hosts}
        for j in measured:
            if mean > 0.0:
                F = -1.0 if l[i, j] > mean else 1.0
                factor = 1.0 + eta * F * (abs(mean - l[i, j]) / mean)
                moved[j] = D[i, j] * min(max(factor, MIN_FACTOR), MAX_FACTOR)
        total, containers = sum(moved.values()), sum(S[i, j] for j in hosts)
        raised = {j: max(moved[j] / total, floor * (S[i, j] / containers)) for j in hosts}
        for j in hosts:
            result[i, j] = raised[j] / sum(raised.values())
    return result


def carry_over(D: Floats, before: Ints, after: Ints) -> Floats:
    """The weight per container of a host stays; a new host gets the mean weight of the containers that stay."""
    result = np.zeros_like(D)
    for i in range(len(D)):
        hosts = [j for j in range(D.shape[1]) if after[i, j] > 0]
        staying = [j for j in hosts if before[i, j] > 0]
        weight = {j: D[i, j] / before[i, j] for j in staying}
        mean = sum(weight[j] * after[i, j] for j in staying) / max(sum(after[i, j] for j in staying), 1)
        load = {j: weight.get(j, mean if mean > 0.0 else 1.0) * after[i, j] for j in hosts}
        for j in hosts:
            result[i, j] = load[j] / sum(load.values())
    return result


@dataclass
class Table:
    """The performance table: per microservice, interference bins -> load bin -> (load, latency)."""

    bins: int
    rate: float
    entries: list[dict[Key, dict[int, tuple[float, float]]]]

    def insert(self, i: int, interference: ArrayLike, load: float, maximum: float, latency: float) -> None:
        if not (math.isfinite(latency) and latency > 0.0):
            return
        by_load = self.entries[i].setdefault(self.key(interference), {})
        load_bin = int(load / maximum * self.bins + 1e-6) if maximum > 0.0 else 0
        if load_bin not in by_load:
            by_load[load_bin] = load, latency
        else:
            old_load, old_latency = by_load[load_bin]
            by_load[load_bin] = (
                old_load + self.rate * (load - old_load),
                old_latency + self.rate * (latency - old_latency),
            )

    def latency_ms(self, i: int, interference: ArrayLike, load: float) -> float:
        known = self.entries[i]
        if not known:
            return 0.0
        key = closest(self.key(interference), known)
        loads, values = self.curve(i, key)
        two_loads = [other for other, by_load in known.items() if len(by_load) > 1]
        if len(loads) > 1 or not two_loads:
            return interpolate(loads, values, load)
        other = self.curve(i, closest(key, two_loads))
        change = interpolate(*other, load) - interpolate(*other, loads[0])
        return max(values[0] + change, FLOOR_MS)

    def curve(self, i: int, key: Key) -> tuple[list[float], list[float]]:
        entries = sorted(self.entries[i][key].values(), key=lambda entry: entry[0])
        return [load for load, _ in entries], monotone([latency for _, latency in entries])

    def key(self, interference: ArrayLike) -> Key:
        shares = np.clip(np.asarray(interference, np.float64)[:3] / 0.8, 0.0, 1.0)
        return tuple(int(b) for b in np.minimum(np.floor(shares * self.bins + 1e-6), self.bins - 1))


def closest(key: Key, known: Iterable[Key]) -> Key:
    return min(known, key=lambda other: (math.dist(key, other), -sum(other), tuple(-b for b in other)))


def monotone(values: list[float]) -> list[float]:
    pools: list[tuple[float, int]] = []
    for mean in values:
        size = 1
        while pools and pools[-1][0] > mean:
            last, count = pools.pop()
            mean, size = (mean * size + last * count) / (size + count), size + count
        pools.append((mean, size))
    return [mean for mean, size in pools for _ in range(size)]


def interpolate(loads: list[float], values: list[float], w: float) -> float:
    if len(loads) == 1:
        return values[0]
    n = min(max(sum(load < w for load in loads), 1), len(loads) - 1)
    m = n - 1
    if loads[n] <= loads[m]:
        return values[n]
    return max(values[m] + (values[n] - values[m]) / (loads[n] - loads[m]) * (w - loads[m]), FLOOR_MS)


def kmeans(values: Floats, k: int) -> Ints:
    """The dynamic program over all cuts, without leaving any out."""
    distinct, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    size = len(distinct)
    groups = min(k, size)
    centred = distinct - distinct.mean()
    weight, first, second = (np.concatenate([[0.0], np.cumsum(counts * power)]) for power in (1.0, centred, centred**2))
    members = np.maximum(weight[None, :] - weight[:, None], 1.0)
    cost = second[None, :] - second[:, None] - (first[None, :] - first[:, None]) ** 2 / members
    cost = np.where(np.tri(size + 1, dtype=bool), np.inf, np.maximum(cost, 0.0))
    best = np.full(size + 1, np.inf)
    best[0] = 0.0
    cuts = np.zeros((groups, size + 1), np.int64)
    for group in range(groups):
        total = best[:, None] + cost
        cuts[group] = np.argmin(total, axis=0)
        best = total.min(axis=0)
    labels = np.zeros(size, np.int64)
    end = size
    for group in reversed(range(groups)):
        start = int(cuts[group, end])
        labels[start:end] = group
        end = start
    return labels[position]


def match(up: Ints, sent: Floats, down: Ints, received: Floats, group: Ints) -> Links:
    """All ends of both sides on one line, sorted; each piece belongs to one container of each side."""
    labels = np.unique(group, return_inverse=True)[1]
    order, down_order = np.lexsort((up, -sent, labels)), np.lexsort((down, received))
    up_ends = np.cumsum(_normalised(sent[order], labels[order]))
    groups = np.arange(int(labels.max()) + 1)
    down_ends = (groups[:, None] + np.cumsum(received[down_order]) / received[down_order].sum()).ravel()
    ends = np.sort(np.concatenate([up_ends, down_ends]))
    starts = np.concatenate([[0.0], ends[:-1]])
    kept = ends - starts > TOLERANCE
    middle = (starts[kept] + ends[kept]) / 2.0
    u = np.minimum(np.searchsorted(up_ends, middle), len(up_ends) - 1)
    d = np.minimum(np.searchsorted(down_ends, middle), len(down_ends) - 1) % len(down)
    piece = ends[kept] - starts[kept]
    return Links(up[order][u], down[down_order][d], piece / np.bincount(u, piece, minlength=len(up_ends))[u])


def _normalised(share: Floats, labels: Ints) -> Floats:
    total, members = np.bincount(labels, share), np.bincount(labels)
    loaded = (total > 0.0)[labels]
    sent = np.where(loaded, share / np.where(loaded, total[labels], 1.0), 1.0 / members[labels])
    sent = np.maximum(sent, MIN_SHARE)
    return np.asarray(sent / np.bincount(labels, sent)[labels])


def grouping_plan(
    observation: Observation, proportions: Floats, table: Table, pairs: Iterable[tuple[int, int]], budget: int
) -> dict[int, Links]:
    """Section 4.2.2 for every pair; the table has learnt before."""
    plan = {}
    for pair, (up, down) in enumerate(pairs):
        (up_ids, up_hosts), (down_ids, down_hosts) = _ready(observation, up), _ready(observation, down)
        if len(up_ids) == 0 or len(down_ids) == 0:
            continue
        sent, received = _shares(up_hosts, proportions[up]), _shares(down_hosts, proportions[down])
        load = float(observation["load_rps"][up].sum())
        latency = [
            table.latency_ms(up, observation["interference"][host], load * float(share))
            for host, share in zip(up_hosts.tolist(), sent, strict=True)
        ]
        plan[pair] = match(up_ids, sent, down_ids, received, kmeans(np.array(latency), budget))
    return plan


def _ready(observation: Observation, microservice: int) -> tuple[Ints, Ints]:
    rows = [row for row in observation["containers"].tolist() if row[0] >= 0 and row[1] == microservice and row[3] == 1]
    ids, _, hosts, _ = np.array(sorted(rows), np.int64).reshape(-1, 4).T
    return ids, hosts


def _shares(hosts: Ints, proportions: Floats) -> Floats:
    shares = proportions[hosts] / np.bincount(hosts, minlength=len(proportions))[hosts]
    if shares.sum() <= 0.0:
        shares = np.ones(len(hosts))
    return np.asarray(shares / shares.sum())


def learn(table: Table, observation: Observation, maximum: Floats) -> None:
    """One control interval: each microservice as a whole, if it is on several hosts, and host by host."""
    interference = observation["interference"].astype(np.float64)
    for i in range(len(observation["ready"])):
        ready, load = observation["ready"][i], observation["load_rps"][i].astype(np.float64)
        running = np.flatnonzero(ready > 0)
        hosts = [j for j in running if observation["samples"][i, j] > 0]
        if hosts and len(running) > 1:
            mean_load = load[running].sum() / ready[running].sum()
            tail = float(observation["microservice_p95_ms"][i])
            table.insert(i, interference[running].mean(axis=0), mean_load, maximum[i], tail)
        for j in hosts:
            table.insert(i, interference[j], load[j] / ready[j], maximum[i], float(observation["own_p95_ms"][i, j]))
