"""E2E latency: distributions of it, composed from bursts, stages and calls up the call trees, compiled.

The time of a call has two parts, which are taken as independent of each other and of those of other calls:

- a *narrow* one: CPU demand, messages and stores; known by its mean and variance;
- a *wide* one: scheduling delays and what is lost to quotas, nothing for most calls and up to periods for some; a
  histogram of `NODES` nodes `step` apart, of which the first holds the calls that lose nothing.

Stages one after another are convolutions, parallel calls products of distribution functions. Means are exact but for
the maximum of parallel calls.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.fluid.burst import RAREST, Burst, mixture, new_burst, waits
from imbres_gym.sim.fluid.compiled import kernel
from imbres_gym.sim.fluid.histogram import NODES, SCRATCH, after_delays, convolve, larger, parallel, rescale, total

Floats = NDArray[np.float64]

FAR = 5.0
"""Of a mean delay: how far the delays of a call reach (a choice: 0.7 % are longer)."""


class Times(NamedTuple):
    """Time from the arrival of a call to its answer, for each kind [ms]."""

    mean: Floats  # (K,) of the narrow part
    variance: Floats
    step: Floats  # (K,) distance of the nodes; 0 where nothing is lost
    wide: Floats  # (K, NODES) chances
    network: Floats  # (K,) by how much messages to it take longer, at sensitivity 1
    apart: Floats  # (stages,) chance that a stage ends in another period than it begins in
    groups: Floats  # (K,) as in `Kinds`, with the waits of this step
    second_ms2: Floats
    burst: Burst  # of the kind that is composed
    stage: Floats  # (NODES,) of the stage that is composed
    called: Floats  # (NODES,) of one of its calls
    scratch: Floats  # (2, SCRATCH)


def new_times(n_kinds: int, n_stages: int) -> Times:
    """Room for the times of the kinds."""
    return Times(
        mean=np.zeros(n_kinds),
        variance=np.zeros(n_kinds),
        step=np.zeros(n_kinds),
        wide=np.zeros((n_kinds, NODES)),
        network=np.zeros(n_kinds),
        apart=np.zeros(n_stages),
        groups=np.zeros(n_kinds),
        second_ms2=np.zeros(n_kinds),
        burst=new_burst(),
        stage=np.zeros(NODES),
        called=np.zeros(NODES),
        scratch=np.zeros((2, SCRATCH)),
    )


@kernel
def compose(kinds, fleet, stations, response, weather, store_shape, rates, losses, runs, times):
    """Compose the times of all kinds, called ones before their callers.

    Args:
        kinds: who calls whom.
        fleet: the containers.
        stations: how they fare.
        response: constants of interference.
        weather: what it does at the moment.
        store_shape: Gamma shape of the latency of a store.
        rates: of each kind to each container.
        losses: of a burst of each kind in each container, see `station.look_up`.
        runs: likewise.
        times: is overwritten.
    """
    burst, stage, called, room = times.burst, times.stage, times.called, times.scratch[0]
    for k in range(len(kinds.microservice) - 1, -1, -1):
        rate, i = 0.0, fleet.kind_begin[k]
        while i < fleet.kind_begin[k + 1]:
            rate += rates[i] * runs[i]
            i += runs[i]
        mine = times.wide[k]
        mine[:] = 0.0
        mine[0] = 1.0
        times.mean[k] = times.variance[k] = times.step[k] = times.network[k] = 0.0
        times.groups[k], times.second_ms2[k] = kinds.groups[k], kinds.second_ms2[k]
        if rate <= 0.0:
            continue
        busy, preempted = narrow(kinds, k, fleet, stations, response, weather, rates, runs, rate, times)
        step = reach(kinds, k, fleet, stations, rates, losses, runs, times)
        step = math.sqrt(step**2 + kinds.bursts[k] * (busy + preempted) * (FAR * response.delay_ms) ** 2) / (NODES - 2)
        times.step[k] = step
        if step > 0.0:
            mixture(kinds, k, fleet, stations, rates, losses, runs, rate, step, burst.lost, times.scratch[1])
            after_delays(burst.lost, response.delay_ms / step, burst.once, burst.twice, burst.delay, burst.delays)
            waits(burst, 1.0, busy, preempted, mine)
        for s in range(kinds.stage[k], kinds.stage[k + 1]):
            again, wide = longest(kinds, k, s, response, store_shape, times, step)
            times.apart[s] = again
            if step > 0.0:
                if wide:
                    convolve(mine, stage, room)
                # The burst after the stage loses to the quota anew if it is in another period than the one before.
                follows = made(kinds, s)
                waits(burst, again, busy * follows, preempted * follows, called)
                convolve(mine, called, room)
        clump(kinds, k, times)


@inlined
def narrow(kinds, k, fleet, stations, response, weather, rates, runs, rate, times):
    """The narrow part of the bursts of kind k, over all containers; returns the chances of delays of a burst."""
    m, n = kinds.microservice[k], kinds.bursts[k]
    shape = kinds.shapes[kinds.shape[k]]
    mean, second, network, contention, preemption = 0.0, 0.0, 0.0, 0.0, 0.0
    shift, following = fleet.begin[m] - fleet.kind_begin[k], fleet.kind_begin[k]
    while following < fleet.kind_begin[k + 1]:
        i, container = following, shift + following
        following += runs[i]
        share = rates[i] * runs[i] / rate
        busy = weather.contention[fleet.cell[container]]
        demand = kinds.burst_ms[k] * stations.stretch[container]
        time = demand * stations.slowness[container]
        here = n * time
        contention += share * busy
        preemption += share * (1.0 - math.exp(-busy * response.preemption_per_ms * demand))
        mean += share * here
        second += share * (here * here + n * time * time / shape)
        network += share * weather.network_wait[fleet.cell[container]]
    times.mean[k] = mean
    times.variance[k] = max(0.0, second - mean * mean)
    times.network[k] = network
    return contention, preemption


@inlined
def made(kinds, s):
    """Chance that a call of stage s is made, so that a burst follows."""
    nothing = 1.0
    for child in range(kinds.child[s], kinds.child[s + 1]):
        nothing *= 1.0 - kinds.child_probability[child]
    return 1.0 - nothing


@inlined
def clump(kinds, k, times):
    """Which bursts of kind k fall into one period, as in `kinds`, but with the waits of this step."""
    first, end = kinds.stage[k], kinds.stage[k + 1]
    bursts = end - first + 1
    work = kinds.bursts[k] * kinds.burst_ms[k] / bursts
    shape = kinds.shapes[kinds.shape[k]]
    second = (bursts * work * work + kinds.background_ms[k] ** 2) / shape
    groups = 1.0
    for i in range(bursts):
        mine = work + (kinds.background_ms[k] if i == bursts - 1 else 0.0)
        second += mine * mine
        apart = 0.0
        for j in range(i + 1, bursts):
            apart += times.apart[first + j - 1]
            if j == i + 1:
                groups += apart
            if apart >= 1.0:
                break
            other = work + (kinds.background_ms[k] if j == bursts - 1 else 0.0)
            second += 2.0 * mine * other * (1.0 - apart)
    times.groups[k], times.second_ms2[k] = groups, second


@inlined
def reach(kinds, k, fleet, stations, rates, losses, runs, times):
    """How far the wide part of kind k reaches: parts add like deviations, parallel ones do not."""
    square = 0.0
    shift, following = fleet.begin[kinds.microservice[k]] - fleet.kind_begin[k], fleet.kind_begin[k]
    while following < fleet.kind_begin[k + 1]:
        i, container = following, shift + following
        following += runs[i]
        if rates[i] > 0.0:
            late = max(stations.extra_from[container], stations.extra_to[container])
            square = max(square, losses[i, RAREST] + late)
    square *= square * kinds.groups[k]
    for s in range(kinds.stage[k], kinds.stage[k + 1]):
        most = 0.0
        for child in range(kinds.child[s], kinds.child[s + 1]):
            called = kinds.child_kind[child]
            if called >= 0:
                most = max(most, times.step[called] * (NODES - 2) * math.sqrt(kinds.child_repeat[child]))
        square += most * most
    return math.sqrt(square)


@inlined
def longest(kinds, k, s, response, store_shape, times, step):
    """The longest call of stage s of kind k: its wide part in `times.stage`; the narrow one is added to that of kind k.

    Returns:
        The chance that the stage ends in another period than it begins in (its time over the period, at most 1), and
        whether there is anything in its wide part.
    """
    stage, called = times.stage, times.called
    mean, variance, wide = 0.0, 0.0, False
    for child in range(kinds.child[s], kinds.child[s + 1]):
        here, spread, waits_too = one_call(kinds, k, child, response, store_shape, times, step)
        if child == kinds.child[s]:
            for j in range(NODES):
                stage[j] = called[j]
            mean, variance = here, spread
        else:
            if wide or waits_too:
                top = max(mean, here)
                parallel(stage, (top - mean) / step, called, (top - here) / step)
            mean, variance = larger(mean, variance, here, spread)
        wide = wide or waits_too
    times.mean[k] += mean
    times.variance[k] += variance
    if not wide:
        return min(1.0, mean / kinds.period_ms), False
    for j in range(NODES):
        called[j] = stage[j] * min(1.0, (mean + j * step) / kinds.period_ms)
    return total(called), True


@inlined
def one_call(kinds, k, child, response, store_shape, times, step):
    """A call with its repetitions, made or not: its wide part in `times.called`.

    Returns:
        Mean and variance of the narrow part, and whether there is anything in the wide one.
    """
    called = times.called
    kind = kinds.child_kind[child]
    repeat, probability = kinds.child_repeat[child], kinds.child_probability[child]
    wide = False
    if kind < 0:
        mean = kinds.child_store_ms[child] * repeat
        variance = kinds.child_store_ms[child] ** 2 / store_shape * repeat
    else:
        wait = max(times.network[k], times.network[kind])
        hop = kinds.hop_ms * (1.0 + response.network[kinds.microservice[kind]] * wait)
        mean = (times.mean[kind] + hop) * repeat
        variance = (times.variance[kind] + 0.5 * hop * hop) * repeat
        wide = times.step[kind] > 0.0
    if wide:
        rescale(times.wide[kind], times.step[kind] / step, called)
        if repeat > 1:
            once = times.scratch[1]
            for j in range(NODES):
                once[j] = called[j]
            for _ in range(repeat - 1):
                convolve(called, once, times.scratch[0])
    else:
        called[:] = 0.0
        called[0] = 1.0
    if probability < 1.0:
        variance = probability * (variance + mean * mean * (1.0 - probability))
        mean *= probability
        for j in range(NODES):
            called[j] *= probability
        called[0] += 1.0 - probability
    return mean, variance, wide


@kernel
def outcomes(kinds, fleet, stations, rates, refused, fails, answered):
    """Chance that a call fails, and calls that are answered in the step as a share of those that arrive.

    Args:
        kinds: who calls whom.
        fleet: the containers.
        stations: how they fare.
        rates: of each kind to each container.
        refused: (K,) calls/s of a kind for which there is no container.
        fails: (K,) is overwritten.
        answered: (K,) is overwritten.
    """
    count = len(kinds.microservice)
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
        for child in range(kinds.child[kinds.stage[k]], kinds.child[kinds.stage[k + 1]]):
            called = kinds.child_kind[child]
            if called >= 0 and fails[called] > 0.0:
                good *= 1.0 - kinds.child_probability[child] * (
                    1.0 - (1.0 - fails[called]) ** kinds.child_repeat[child]
                )
        for edge in range(kinds.edge[k], kinds.edge[k + 1]):
            called = kinds.edge_kind[edge]
            if kinds.edge_calls[edge] >= 0.5:
                answered[k] = min(answered[k], answered[called]) if answered[k] <= 1.0 else answered[k]
        fails[k] = 1.0 - good
