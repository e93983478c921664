"""Own latency per microservice and host (*cell*): moments and quantiles in closed form from the surfaces, compiled."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.fluid.compiled import kernel
from imbres_gym.sim.fluid.levels import LOG_LEVELS, P95, tail_at
from imbres_gym.sim.fluid.surfaces import DEVIATION, INFLATION, INTERRUPTED, LEVELS, MEAN_INTERRUPTED, MEAN_LOST

N_LEVELS = len(LEVELS)
FIRST = INTERRUPTED.start
STEPS = 6
"""Values that are tried for a p95 over hosts, at most; what is left between the last two is taken as straight."""

CLOSE = 1e-3
"""Relative distance of two values between which none is tried."""

MEAN, VARIANCE, CALLS, EXCESS = range(4)
"""Places in the last axis of the moments: the last is the variance times its inflation, see the surfaces."""


class Tails(NamedTuple):
    """Quantiles of a standard normal variate, and room for the places in the table of one kind (levels,)."""

    normal: NDArray[np.float64]
    log_levels: NDArray[np.float64]
    low: NDArray[np.int64]
    part: NDArray[np.float64]
    jump: NDArray[np.float64]  # room for what is found there


def make_tails() -> Tails:
    """For the levels of the surfaces."""
    from scipy.special import ndtri

    return Tails(ndtri(1.0 - LEVELS), LOG_LEVELS, np.zeros(N_LEVELS, np.int64), np.zeros(N_LEVELS), np.zeros(N_LEVELS))


@inlined
def place_largest(groups, tails):
    """Where the largest loss of a call lies: the chance of one is that of all over their number."""
    shift = math.log(groups)
    for j in range(N_LEVELS):
        log_tail = tails.log_levels[j] - shift
        low = j
        while low < N_LEVELS - 2 and tails.log_levels[low + 1] >= log_tail:
            low += 1
        low = min(low, N_LEVELS - 2)
        gap = tails.log_levels[low + 1] - tails.log_levels[low]
        tails.low[j] = low
        tails.part[j] = min(max((log_tail - tails.log_levels[low]) / gap, 0.0), 1.0)


@kernel
def own_latency(kinds, fleet, stations, response, weather, tails, store_shape, rates, losses, runs, moments, quantiles):
    """Moments (cells, 4) and quantiles (cells, levels) of the own latency of the calls to each cell [ms].

    The base (demand, preemption, calls that are not traced) has a narrow distribution; what a burst loses to the quota
    has a wide one, of which the largest of a call's bursts decides the tail.
    """
    moments[:] = 0.0
    quantiles[:] = 0.0
    for k in range(len(kinds.microservice)):
        m, n = kinds.microservice[k], kinds.bursts[k]
        place_largest(kinds.groups[k], tails)
        shift = fleet.begin[m] - fleet.kind_begin[k]
        following = fleet.kind_begin[k]
        while following < fleet.kind_begin[k + 1]:
            i, container = following, shift + following
            following += runs[i]
            rate = rates[i] * runs[i]
            if rate <= 0.0:
                continue
            row = losses[i]
            busy = weather.contention[fleet.cell[container]]
            burst = kinds.burst_ms[k] * stations.stretch[container]
            time = burst * stations.slowness[container]
            preempted = 1.0 - math.exp(-busy * response.preemption_per_ms * burst)
            wakes = kinds.untraced_wakes[k]
            base = n * (time + preempted * response.delay_ms) + kinds.untraced_ms[k] + wakes * busy * response.delay_ms
            narrow = n * time * time / kinds.shapes[kinds.shape[k]] + kinds.untraced_ms[k] ** 2 / store_shape
            delays = n * preempted + wakes * busy
            variance = narrow + delays * waiting_variance(1.0, response.delay_ms)
            lost = kinds.groups[k] * row[MEAN_INTERRUPTED] + wakes * (row[MEAN_LOST] - row[MEAN_INTERRUPTED])
            spread = kinds.groups[k] * row[DEVIATION] ** 2
            place = fleet.cell[container]
            cell = moments[place]
            # Means first, then the variance around them: summed as second moments.
            cell[MEAN] += rate * (base + lost)
            cell[VARIANCE] += rate * (variance + spread + (base + lost) ** 2)
            cell[CALLS] += rate
            cell[EXCESS] += rate * (variance + spread * row[INFLATION])
            usually, deviation = base - delays * response.delay_ms, math.sqrt(narrow)
            log_delays = math.log(delays) if delays > 0.0 else -math.inf
            jump, of_cell = tails.jump, quantiles[place]
            for j in range(N_LEVELS):
                low = FIRST + tails.low[j]
                jump[j] = row[low] + tails.part[j] * (row[low + 1] - row[low])
            for j in range(len(jump)):  # the compiler vectorises no loop that it knows to be so short
                usual = tails.normal[j] * deviation
                # Both kinds of jumps are rare: a quantile sees the larger one.
                delay = max(0.0, response.delay_ms * (log_delays - tails.log_levels[j]))
                far = math.sqrt(jump[j] * jump[j] + delay * delay + usual * usual)
                far = far if usual > 0.0 else jump[j] + delay + usual
                of_cell[j] += rate * max(0.0, usually + far)
    for place in range(len(moments)):
        calls = moments[place, CALLS]
        if calls > 0.0:
            moments[place, MEAN] /= calls
            moments[place, VARIANCE] = moments[place, VARIANCE] / calls - moments[place, MEAN] ** 2
            moments[place, EXCESS] /= calls
            for j in range(N_LEVELS):
                quantiles[place, j] /= calls


@inlined
def waiting_variance(chance, mean):
    """Variance of an exponential wait that happens with a chance."""
    return chance * mean * mean * (2.0 - chance)


@kernel
def over_hosts(fleet, calls, quantiles, p95, scale):
    """95th percentile over all hosts: where the tails of the cells, weighted by their calls, sum to 5 %.

    Args:
        fleet: says which cells a microservice has.
        calls: (cells,) weights.
        quantiles: (cells, levels).
        p95: (M,) is overwritten where there are calls.
        scale: (cells,) factor on the quantiles.
    """
    for m in range(len(p95)):
        first, end = fleet.cell_begin[m], fleet.cell_begin[m + 1]
        total, low, high = 0.0, math.inf, 0.0
        for place in range(first, end):
            if calls[place] > 0.0:
                total += calls[place]
                value = quantiles[place, P95] * scale[place]
                low, high = min(low, value), max(high, value)
        if total <= 0.0:
            continue
        # The tail falls from at least 5 % to at most that: a false position is off by ever less, by halves at worst.
        low_tail = tail_of(fleet, calls, quantiles, scale, m, low)
        high_tail = tail_of(fleet, calls, quantiles, scale, m, high)
        for _ in range(STEPS):
            if high - low <= CLOSE * high or low_tail <= high_tail:
                break
            part = (low_tail - 0.05 * total) / (low_tail - high_tail)
            middle = low + min(max(part, 0.05), 0.95) * (high - low)
            tail = tail_of(fleet, calls, quantiles, scale, m, middle)
            if tail > 0.05 * total:
                low, low_tail = middle, tail
            else:
                high, high_tail = middle, tail
        part = (low_tail - 0.05 * total) / (low_tail - high_tail) if low_tail > high_tail else 0.5
        p95[m] = low + min(max(part, 0.0), 1.0) * (high - low)


@inlined
def tail_of(fleet, calls, quantiles, scale, m, value):
    """Calls to microservice m that take longer than a value."""
    tail = 0.0
    for place in range(fleet.cell_begin[m], fleet.cell_begin[m + 1]):
        if calls[place] > 0.0:
            tail += calls[place] * tail_at(quantiles[place], value / scale[place])
    return tail
