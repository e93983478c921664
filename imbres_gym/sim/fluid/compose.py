"""E2E latency: samples of it, composed from bursts, stages and calls up the call trees, compiled.

Sample i of a kind is one call of it: by one container (the samples are spread over containers by their load), with its
bursts, and with the samples of the calls that it makes, taken in an order of its own. Calls of a stage run in parallel
(the longest counts), stages one after another. See `imbres_gym.sim.fluid.columns` for what is random in it.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from imbres_gym.sim.fluid.columns import COLUMNS
from imbres_gym.sim.fluid.compiled import kernel


@kernel
def compose(kinds, fleet, stations, world, columns, store_gamma, rates, losses, latency):
    """Time from arrival to answer of each kind: (K, n) samples [ms], written into `latency`.

    Args:
        kinds, fleet, stations: who calls whom, and how containers fare.
        world: of `imbres_gym.sim.world`.
        columns: the random numbers.
        store_gamma: place in `columns.gamma` of the latency of stores.
        rates, losses: of each kind in each container.
        latency: (K, n) is overwritten.
    """
    n = latency.shape[1]
    network = np.zeros(latency.shape)
    place = np.zeros(n, np.int64)
    stage_ms = np.zeros(n)
    called_ms = np.zeros(n)
    made = np.zeros(n, np.bool_)
    column = 0
    for k in range(len(kinds.microservice) - 1, -1, -1):
        mine = latency[k]
        mine[:] = 0.0
        m = kinds.microservice[k]
        first = fleet.begin[m] - fleet.kind_begin[k]
        if not spread(rates, fleet.kind_begin[k], fleet.kind_begin[k + 1], place):
            continue
        for i in range(n):
            container = first + place[i]
            network[k, i] = world.network_wait[m, fleet.host[container]]
            begin, end = stations.extra_from[container], stations.extra_to[container]
            if end + begin > 0.0:
                mine[i] += begin + (end - begin) * columns.chance[columns.order[column, i]]
            made[i] = True
            stage_ms[i] = kinds.period_ms
        column = burst(
            kinds, k, fleet, stations, world, columns, losses, place, made, stage_ms, mine, (column + 1) % COLUMNS
        )
        for stage in range(kinds.stage[k], kinds.stage[k + 1]):
            stage_ms[:] = 0.0
            made[:] = False
            for child in range(kinds.child[stage], kinds.child[stage + 1]):
                column = call(
                    kinds, k, child, world, columns, store_gamma, latency, network, called_ms, stage_ms, made, column
                )
            for i in range(n):
                mine[i] += stage_ms[i]
            column = burst(kinds, k, fleet, stations, world, columns, losses, place, made, stage_ms, mine, column)


@kernel
def spread(rates, low, high, place):
    """Spread the samples over the containers `low:high` by their rates; whether there are any calls."""
    total = 0.0
    for i in range(low, high):
        total += rates[i]
    if total <= 0.0:
        return False
    n = len(place)
    container, upto = low, rates[low]
    for i in range(n):
        wanted = (i + 0.5) / n * total
        while upto < wanted and container + 1 < high:
            container += 1
            upto += rates[container]
        place[i] = container
    return True


@kernel
def burst(kinds, k, fleet, stations, world, columns, losses, place, made, since_ms, mine, column):
    """Add one CPU burst of kind k, with its delays, to the samples that make it; return the next column.

    A burst that follows another of its call within the same period, `since_ms` later, loses nothing more: the losses
    are those of all bursts of a period together.
    """
    m = kinds.microservice[k]
    shift = fleet.begin[m] - fleet.kind_begin[k]
    lost, size, delay = columns.order[column], columns.order[(column + 1) % COLUMNS], columns.order[(column + 2) % COLUMNS]
    again = columns.order[(column + 3) % COLUMNS]
    gamma = columns.gamma[kinds.shape[k]]
    n = len(mine)
    for i in range(n):
        if not made[i]:
            continue
        row = losses[place[i]]
        container = shift + place[i]
        j = lost[i]
        demand = kinds.burst_ms[k] * stations.stretch[container] * gamma[size[i]]
        time = demand * stations.slowness[container]
        if columns.chance[again[i]] * kinds.period_ms <= since_ms[i]:
            time += columns.low_weight[j] * row[columns.low[j]] + columns.high_weight[j] * row[columns.high[j]]
        busy = world.contention[m, fleet.host[container]]
        if busy > 0.0:
            woken = delay[i]
            if columns.chance[woken] < busy:
                time += world.delay_ms * (columns.exponential[woken] + math.log(busy))
            preempted = n - 1 - woken
            chance = busy * world.preemption_per_ms * demand
            if columns.chance[preempted] < chance:  # the chance is 1 - exp(-x) <= x
                chance = 1.0 - math.exp(-chance)
                if columns.chance[preempted] < chance:
                    time += world.delay_ms * (columns.exponential[preempted] + math.log(chance))
        mine[i] += time
    return (column + 4) % COLUMNS


@kernel
def call(kinds, k, child, world, columns, store_gamma, latency, network, called_ms, stage_ms, made, column):
    """Make one call of a stage of kind k with its repetitions; return the next column."""
    called = kinds.child_kind[child]
    probability = kinds.child_probability[child]
    n = len(stage_ms)
    called_ms[:] = 0.0
    for _ in range(kinds.child_repeat[child]):
        order = columns.order[column]
        column = (column + 1) % COLUMNS
        if called < 0:
            gamma = columns.gamma[store_gamma]
            for i in range(n):
                called_ms[i] += kinds.child_store_ms[child] * gamma[order[i]]
        else:
            sensitivity = world.network_sensitivity[kinds.microservice[called]]
            for i in range(n):
                j = order[i]
                wait = max(network[called, j], network[k, i])
                called_ms[i] += latency[called, j] + kinds.hop_ms * (1.0 + sensitivity * wait)
    chance = columns.order[column]
    for i in range(n):
        if probability >= 1.0 or columns.chance[chance[i]] < probability:
            made[i] = True
            stage_ms[i] = max(stage_ms[i], called_ms[i])
    return (column + 1) % COLUMNS if probability < 1.0 else column


@kernel
def end_to_end(kinds, fleet, world, rates, latency, out):
    """(C, n) E2E latency of each class [ms], sorted: the answer of its root, and the messages from and to the user."""
    for c in range(len(kinds.root)):
        k = kinds.root[c]
        m = kinds.microservice[k]
        total, wait = 0.0, 0.0
        for i in range(fleet.kind_begin[k], fleet.kind_begin[k + 1]):
            total += rates[i]
            wait += rates[i] * world.network_wait[m, fleet.host[fleet.begin[m] + i - fleet.kind_begin[k]]]
        hop = kinds.hop_ms * (1.0 + world.network_sensitivity[m] * (wait / total if total > 0.0 else 0.0))
        for i in range(latency.shape[1]):
            out[c, i] = latency[k, i] + hop
        out[c].sort()


@kernel
def outcomes(kinds, fleet, stations, rates, refused):
    """(K,) chance that a call fails, and calls that are answered in the step as a share of those that arrive.

    Args:
        kinds, fleet, stations: who calls whom, and how containers fare.
        rates: of each kind to each container.
        refused: (K,) calls/s of a kind for which there is no container.
    """
    count = len(kinds.microservice)
    fails, answered = np.zeros(count), np.ones(count)
    for k in range(count - 1, -1, -1):
        total, lost, through = refused[k], refused[k], 0.0
        container = fleet.begin[kinds.microservice[k]]
        for i in range(fleet.kind_begin[k], fleet.kind_begin[k + 1]):
            total += rates[i]
            lost += rates[i] * stations.refused[container]
            through += rates[i] * (stations.passed[container] + stations.refused[container])
            container += 1
        good = 1.0 - lost / total if total > 0.0 else 1.0
        answered[k] = (through + refused[k]) / total if total > 0.0 else 1.0
        for edge in range(kinds.edge[k], kinds.edge[k + 1]):
            called = kinds.edge_kind[edge]
            good *= (1.0 - min(1.0, fails[called])) ** kinds.edge_calls[edge]
            if kinds.edge_calls[edge] >= 0.5:
                answered[k] = min(answered[k], answered[called]) if answered[k] <= 1.0 else answered[k]
        fails[k] = 1.0 - good
    return fails, answered
