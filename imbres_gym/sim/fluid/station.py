"""What calls do to a container: use of its quota, work that is left over, and how long a burst takes, compiled.

The response surfaces say what a burst loses to the quota at a steady load; beyond their last load work piles up
(`excess`), delays every call by the time that it takes to be done, and is done when the load falls.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.fluid.compiled import kernel
from imbres_gym.sim.fluid.surfaces import WIDTH

Floats = NDArray[np.float64]


class Tables(NamedTuple):
    """Response surfaces for the slacks that there are, and the axes as compiled code looks them up."""

    values: NDArray[np.float32]  # (slacks, A, L, C, WIDTH) cube roots
    loads: Floats
    log2_calls: Floats  # evenly spaced
    log_shares: Floats
    slack: NDArray[np.int64]  # (M,) place of a microservice's slack


class Limits(NamedTuple):
    """Sizes of a container of each microservice (M,), and constants of the quota."""

    quota: Floats  # for bursts, per period [core-ms]
    parallelism: Floats
    places: Floats  # workers and accept queue
    wake_loss_ms: float
    period_ms: float
    patience_s: float  # work that would have to wait longer is not served


class Stations(NamedTuple):
    """State of each ready container in one step (n,)."""

    demand: Floats  # CPU demand of the calls without interference [core-ms/s]
    second: Floats  # sum of the second moments of its lumps of work [core-ms^2/s]
    wakes: Floats  # bursts/s
    calls: Floats  # calls/s
    offered: Floats  # cores that the calls want
    used: Floats  # cores that they get
    load: Floats  # offered, as a share of the quota
    lumps: Floats  # calls that fill a quota: `calls` of the surfaces
    stretch: Floats  # factor on CPU demand: interference and connections
    slowness: Floats  # time of a burst over its demand: overloaded host, more bursts than cores
    excess: Floats  # work left over [core-s]
    longest: Floats  # time that all who find a place need, and a period: no one loses more [ms]
    extra_from: Floats  # time that it delays calls [ms], at the start and at the end of the step
    extra_to: Floats
    refused: Floats  # share of the calls that is rejected
    passed: Floats  # calls made, as a share of those that arrivals mean
    same: Floats  # 1 where it has the same to do as the container before, on the same host: all above is the same


def new_stations(count: int) -> Stations:
    """Idle containers."""
    idle = Stations._make(np.zeros(count) for _ in Stations._fields)
    return idle._replace(passed=np.ones(count))


@kernel
def gather(kinds, fleet, rates, stations):
    """Sum the demand of all kinds of calls of each container."""
    for values in (stations.demand, stations.second, stations.wakes, stations.calls):
        values[:] = 0.0
    for k in range(len(kinds.microservice)):
        per_call = kinds.bursts[k] * kinds.burst_ms[k] + kinds.background_ms[k]
        m = kinds.microservice[k]
        low, high = fleet.begin[m], fleet.begin[m + 1]
        here = rates[fleet.kind_begin[k] : fleet.kind_begin[k + 1]]
        add(stations.demand[low:high], here, per_call)
        add(stations.second[low:high], here, kinds.second_ms2[k])
        add(stations.wakes[low:high], here, kinds.bursts[k])
        add(stations.calls[low:high], here, 1.0)


@inlined
def add(values, rates, per_call):
    """To each container's sum, what its calls of one kind add."""
    for i in range(len(rates)):
        values[i] += rates[i] * per_call


@kernel
def own_use(limits, fleet, factor, weather, stations, used):
    """Cores that the calls use on each host: `used` (H,) is overwritten."""
    used[:] = 0.0
    for i in range(len(fleet.id)):
        m, stretch = fleet.microservice[i], weather.stretch[fleet.cell[i]]
        used[fleet.host[i]] += min(stations.demand[i] * stretch * factor[i] * 1e-3, limits.quota[m] / limits.period_ms)


@kernel
def settle(limits, tables, fleet, factor, weather, seconds, before, stations):
    """Load, slowness and left-over work of each container after `seconds` at these rates, from `before` [core-s]."""
    most = tables.loads[-1]
    for i in range(len(fleet.id)):
        stations.same[i] = i > 0 and same_work(fleet, factor, before, stations, i - 1, i)
        if stations.same[i]:
            copy_station(stations, i - 1, i)
            continue
        m, speed = fleet.microservice[i], weather.speed[fleet.host[i]]
        factor_here = weather.stretch[fleet.cell[i]] * factor[i]
        loss, demand = limits.wake_loss_ms, stations.demand[i]
        work = demand * factor_here + loss * stations.wakes[i]
        # What is lost of the quota when threads wake up makes every lump larger.
        second = stations.second[i] * (work / demand) ** 2 if demand > 0.0 else 0.0
        quota = limits.quota[m] / limits.period_ms
        cores = limits.parallelism[m] * speed
        busy = min(work * 1e-3 / cores, most)
        waiting = busy ** (np.sqrt(2.0 * (limits.parallelism[m] + 1.0)) - 1.0)
        stations.stretch[i] = factor_here
        stations.offered[i] = work * 1e-3
        stations.load[i] = stations.offered[i] / quota
        stations.lumps[i] = limits.quota[m] * work / second if second > 0.0 else 1e3
        # More bursts than cores: Sakasegawa's approximation of the wait in M/M/c.
        slowness = 1.0 + waiting / (limits.parallelism[m] * (1.0 - busy))
        stations.slowness[i] = min(slowness, limits.places[m]) / speed
        pile_up(limits, m, i, min(quota, cores), most, seconds, before[i], stations)
        if cores <= quota:  # threads that cannot spend the quota are never throttled
            stations.longest[i] = 0.0


@inlined
def same_work(fleet, factor, before, stations, one, other):
    """Whether two containers of a host have the same to do, as under full connection."""
    return (
        fleet.cell[one] == fleet.cell[other]
        and stations.demand[one] == stations.demand[other]
        and stations.second[one] == stations.second[other]
        and stations.wakes[one] == stations.wakes[other]
        and before[one] == before[other]
        and factor[one] == factor[other]
    )


@inlined
def copy_station(stations, one, other):
    """What `settle` finds out."""
    for values in (
        stations.offered,
        stations.used,
        stations.load,
        stations.lumps,
        stations.stretch,
        stations.slowness,
        stations.excess,
        stations.longest,
        stations.extra_from,
        stations.extra_to,
        stations.refused,
        stations.passed,
    ):
        values[other] = values[one]


@inlined
def pile_up(limits, m, i, capacity, most, seconds, before, stations):
    """Work that container i has left over after a step, and what becomes of its calls."""
    offered = stations.offered[i] * seconds
    after = max(0.0, before + offered - most * capacity * seconds)
    per_call = stations.offered[i] / stations.calls[i] if stations.calls[i] > 0.0 else 0.0
    room = min(limits.places[m] * per_call, limits.patience_s * capacity) if per_call > 0.0 else before
    lost = max(0.0, after - room) if offered > 0.0 else 0.0
    after -= lost
    stations.excess[i] = after
    stations.longest[i] = limits.places[m] * per_call / capacity * 1e3 + limits.period_ms
    stations.extra_from[i] = before / capacity * 1e3
    stations.extra_to[i] = after / capacity * 1e3
    stations.refused[i] = min(1.0, lost / offered) if offered > 0.0 else 0.0
    stations.passed[i] = max(0.0, (offered + before - after - lost) / offered) if offered > 0.0 else 1.0
    # What is lost of the quota when threads wake up is not used.
    useful = stations.demand[i] * stations.stretch[i] * 1e-3 / stations.offered[i] if offered > 0.0 else 0.0
    stations.used[i] = min(capacity, (offered + before - after - lost) / seconds * useful)


@inlined
def position(axis, value):
    """Interval of a rising axis that holds a value, and the place in it [0-1]; the edge outside."""
    if value <= axis[0]:
        return 0, 0.0
    last = len(axis) - 2
    if value >= axis[-1]:
        return last, 1.0
    low = 0
    while low < last and axis[low + 1] <= value:
        low += 1
    return low, (value - axis[low]) / (axis[low + 1] - axis[low])


@kernel
def look_up(kinds, limits, tables, fleet, stations, rates, losses, runs):
    """What a burst of each kind loses in each container: rows of `losses` (len(rates), WIDTH) [ms].

    Containers that follow each other and fare alike, as those of a host do under full connection, are one run: only its
    first has a row, and its length in `runs` (len(rates),). A run of length 0 has no calls.
    """
    step = tables.log2_calls[1] - tables.log2_calls[0]
    for k in range(len(kinds.microservice)):
        m = kinds.microservice[k]
        table = tables.values[tables.slack[m]]
        shift = fleet.begin[m] - fleet.kind_begin[k]
        i, high = fleet.kind_begin[k], fleet.kind_begin[k + 1]
        while i < high:
            end = i + 1
            while end < high and rates[end] == rates[i] and stations.same[shift + end] > 0.0:
                end += 1
            runs[i] = end - i
            container, here = shift + i, i
            i = end
            if rates[here] <= 0.0:
                continue
            lumps = stations.lumps[container]
            size = kinds.burst_ms[k] * kinds.bursts[k] / kinds.groups[k] * stations.stretch[container]
            share = size * lumps / limits.quota[m]
            a, fa = position(tables.log_shares, np.log(share))
            x, fx = position(tables.loads, stations.load[container])
            y = min(max((np.log2(lumps) - tables.log2_calls[0]) / step, 0.0), len(tables.log2_calls) - 1.001)
            c = int(y)
            interpolate(table, a, fa, x, fx, c, y - c, limits.period_ms, stations.longest[container], losses[here])


@inlined
def interpolate(table, a, fa, x, fx, c, fc, scale, most, out):
    """One row of the table between its points, out of cube roots; at most `most`."""
    w00, w01 = np.float32((1.0 - fx) * (1.0 - fc)), np.float32((1.0 - fx) * fc)
    w10, w11 = np.float32(fx * (1.0 - fc)), np.float32(fx * fc)
    low, high = table[a], table[a + 1]
    wide, unit, most = np.float32(fa), np.float32(scale), np.float32(most)
    for j in range(WIDTH):
        one = w00 * low[x, c, j] + w01 * low[x, c + 1, j] + w10 * low[x + 1, c, j] + w11 * low[x + 1, c + 1, j]
        two = w00 * high[x, c, j] + w01 * high[x, c + 1, j] + w10 * high[x + 1, c, j] + w11 * high[x + 1, c + 1, j]
        root = one + wide * (two - one)
        loss = root * root * root
        out[j] = min(loss * unit, most) if j < WIDTH - 1 else loss  # the inflation of the variance has no unit
