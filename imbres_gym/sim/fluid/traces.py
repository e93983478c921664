"""Traces of sampled requests: walks down the call trees by the chances that the step has composed its latencies from.

The engine has no single requests; each trace is drawn for itself, of a request that ends in the step and is not
rejected. Which calls are made, what bursts demand and how long messages and delays take is drawn as in the event engine
(`imbres_gym.sim.spans`), what a burst loses to the quota from the response surfaces of its container. Not in it: which
container a caller is connected to (containers are drawn by all calls that they take), what requests that are under way
together have in common, and the spans that a request which is rejected leaves behind.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.fluid.compiled import allocating
from imbres_gym.sim.fluid.kinds import Kinds
from imbres_gym.sim.fluid.surfaces import INTERRUPTED, LEVELS, MEAN_INTERRUPTED, MEAN_LOST
from imbres_gym.sim.random import TRACES, exponential, gamma, uniform
from imbres_gym.telemetry import SPAN

FIRST_INTERRUPTED = INTERRUPTED.start

TRIES = 100
"""Of a request that is not rejected, all calls find a container; one that does not in so many draws is not traced."""

REQUESTS, SPANS = range(2)
"""Places in the numbers that requests and spans got last."""

CALL = np.dtype(
    [
        ("kind", "i8"),  # -1 for a store
        ("child", "i8"),  # place in the caller's stages, -1 at the root
        ("parent", "i8"),
        ("first", "i8"),  # of its own calls, which follow each other up to `end_of_calls`
        ("end_of_calls", "i8"),
        ("container", "i8"),  # place in the fleet
        ("row", "i8"),  # of the losses of its bursts
        ("send", "f8"),  # first after its caller's, then after the root's [ms]
        ("start", "f8"),  # after its own `send`, as what follows
        ("end", "f8"),
        ("received", "f8"),
        ("own", "f8"),
    ]
)
"""One call of a request."""


class Step(NamedTuple):
    """What a step leaves behind; bundles cannot be read where nothing is allocated."""

    model: Any
    kinds: Any
    fleet: Any
    work: Any
    streams: NDArray[np.uint64]


def new_calls(kinds: Kinds) -> NDArray[np.void]:
    """Room for the calls of any request: for the largest tree, with all calls made."""
    size = np.ones(len(kinds.microservice), np.int64)
    for k in range(len(size) - 1, -1, -1):
        for child in range(kinds.child[kinds.stage[k]], kinds.child[kinds.stage[k + 1]]):
            called = kinds.child_kind[child]
            size[k] += kinds.child_repeat[child] * (size[called] if called >= 0 else 1)
    return np.zeros(int(size[kinds.root].max()), CALL)


@allocating
def trace(episode, sampling, begin_s, seconds, numbers, calls):
    """Draw the traces of a step.

    Args:
        episode: the `Bundle` after the step.
        sampling: share of the requests that are traced [0-1]; those that are rejected are not.
        begin_s: when the step began, since the start of the episode.
        seconds: how long it took.
        numbers: (2,) see `REQUESTS`; brought up to date.
        calls: room, see `new_calls`.

    Returns:
        (n,) of dtype `SPAN`.
    """
    kinds, work, streams = episode.kinds, episode.work, episode.streams
    step = Step(episode.model, kinds, episode.fleet, work, streams)
    found, count = np.empty(1024, SPAN), 0
    sums, rows = np.empty(len(work.rates)), np.empty(len(work.rates), np.int64)
    find_containers(kinds, episode.fleet, work, sums, rows)
    for c in range(len(kinds.root)):
        # Not each by itself: their number would only add chance.
        wanted = np.int64((work.every[c] - work.failed[c]) * sampling + 1.0 - uniform(streams, TRACES))
        for _ in range(wanted):
            size = 0
            for _ in range(TRIES):
                size = draw_calls(step, kinds.root[c], sums, rows, calls)
                if size > 0:
                    break
            if count + size > len(found):
                more = np.empty(2 * len(found) + size, SPAN)
                more[:count] = found[:count]
                found = more
            # Of the step, its requests see a moment each: work that is left over grows or shrinks.
            moment = 1.0 - uniform(streams, TRACES)
            for i in range(size - 1, -1, -1):
                time_call(step, calls, i, moment)
            calls[0].send = (begin_s + seconds * moment) * 1e3 - calls[0].end
            count = list_spans(step, c, calls[:size], numbers, found, count)
    return found[:count]


@inlined
def find_containers(kinds, fleet, work, sums, rows):
    """For each kind and container, the sum of all calls/s that are taken up to it, and the place of its losses."""
    begin = 0
    while begin < len(rows):
        for i in range(begin, begin + work.runs[begin]):
            rows[i] = begin
        begin += work.runs[begin]
    total = 0.0
    for k in range(len(kinds.microservice)):
        container = fleet.begin[kinds.microservice[k]]
        for i in range(fleet.kind_begin[k], fleet.kind_begin[k + 1]):
            total += work.rates[i] * (1.0 - work.stations.refused[container])
            sums[i] = total
            container += 1


@inlined
def draw_calls(step, root, sums, rows, calls):
    """Which calls a request makes, and where: callers before the called; returns how many, 0 where one finds no one."""
    kinds, fleet, streams = step.kinds, step.fleet, step.streams
    calls[0].kind, calls[0].child, calls[0].parent = root, -1, -1
    i, count = 0, 1
    while i < count:
        k = calls[i].kind
        calls[i].first = count
        if k >= 0:
            low, high = fleet.kind_begin[k], fleet.kind_begin[k + 1]
            before = sums[low - 1] if low > 0 else 0.0
            if high == low or sums[high - 1] <= before:
                return 0
            place = choose(sums, low, high, before + uniform(streams, TRACES) * (sums[high - 1] - before))
            calls[i].container = fleet.begin[kinds.microservice[k]] + place - low
            calls[i].row = rows[place]
            for child in range(kinds.child[kinds.stage[k]], kinds.child[kinds.stage[k + 1]]):
                if uniform(streams, TRACES) <= kinds.child_probability[child]:
                    for _ in range(kinds.child_repeat[child]):
                        calls[count].kind, calls[count].child = kinds.child_kind[child], child
                        calls[count].parent = i
                        count += 1
        calls[i].end_of_calls = count
        i += 1
    return count


@inlined
def choose(sums, low, high, value):
    """First place of a rising range that is not below a value."""
    last = high - 1
    while low < last:
        middle = (low + last) // 2
        if sums[middle] < value:
            low = middle + 1
        else:
            last = middle
    return low


@inlined
def time_call(step, calls, i, moment):
    """Times of a call, those that it makes known: a burst, then the calls of a stage, and so on."""
    kinds, model, work, streams = step.kinds, step.model, step.work, step.streams
    call = calls[i]
    k = call.kind
    if k < 0:
        call.start = 0.0
        call.end = call.received = gamma(streams, TRACES, model.store_shape, kinds.child_store_ms[call.child])
        return
    stage, last = kinds.stage[k], kinds.stage[k + 1]
    piece_ms = kinds.bursts[k] * kinds.burst_ms[k] / (last - stage + 1)
    now = message(step, calls, i)
    inside, waking, loses, pieces, following = 0.0, -1.0, True, 1, call.first
    call.start = -1.0
    while True:
        # A stage in which no call is made does not interrupt.
        while stage < last and not (following < call.end_of_calls and calls[following].child < kinds.child[stage + 1]):
            stage, pieces = stage + 1, pieces + 1
        demand = 0.0
        for _ in range(pieces):
            mean = piece_ms * work.stations.stretch[call.container]
            demand += gamma(streams, TRACES, kinds.shapes[kinds.shape[k]], mean)
        waited, runs = burst(step, call.container, call.row, demand, loses, moment)
        now += waited
        if call.start < 0.0:
            call.start = now
        elif waking >= 0.0:  # the client span of its last call ends when its thread runs again
            inside += now - waking
        now += runs
        if stage == last:
            break
        sent, first, after = now, np.inf, -np.inf
        while following < call.end_of_calls and calls[following].child < kinds.child[stage + 1]:
            child, send = calls[following].child, sent
            traced = kinds.child_traced[child]
            at_client = kinds.client_spans or kinds.child_kind[child] < 0
            while following < call.end_of_calls and calls[following].child == child:
                calls[following].send = send
                if traced:
                    first = min(first, send if at_client else send + calls[following].start)
                    after = max(after, send + (calls[following].received if at_client else calls[following].end))
                send += calls[following].received
                following += 1
            if send >= now:
                now, waking = send, send if traced and at_client else -1.0
        inside += max(0.0, after - first)
        loses = uniform(streams, TRACES) <= (now - sent) / kinds.period_ms
        stage, pieces = stage + 1, 1
    call.end = now
    call.own = now - call.start - inside
    call.received = now + message(step, calls, i)


@inlined
def message(step, calls, i):
    """Half a hop between a call and its caller, or the end user [ms]."""
    kinds, fleet, weather = step.kinds, step.fleet, step.work.weather
    call = calls[i]
    wait = weather.network_wait[fleet.cell[call.container]]
    if call.parent >= 0:
        wait = max(wait, weather.network_wait[fleet.cell[calls[call.parent].container]])
    mean = 0.5 * kinds.hop_ms * (1.0 + step.model.response.network[kinds.microservice[call.kind]] * wait)
    return exponential(step.streams, TRACES, mean)


@inlined
def burst(step, container, row, demand, loses, moment):
    """How long a burst waits until it gets CPU, and how long it takes from then on [ms]."""
    work, response, streams = step.work, step.model.response, step.streams
    stations, busy = work.stations, work.weather.contention[step.fleet.cell[container]]
    waited, runs = 0.0, demand * stations.slowness[container]
    if uniform(streams, TRACES) <= busy:
        waited += exponential(streams, TRACES, response.delay_ms)
    if uniform(streams, TRACES) <= 1.0 - math.exp(-busy * response.preemption_per_ms * demand):
        runs += exponential(streams, TRACES, response.delay_ms)
    if loses:
        exceeded = uniform(streams, TRACES)
        losses = work.losses[row]
        lost = loss(losses, 0, losses[MEAN_LOST], exceeded)
        interrupted = loss(losses, FIRST_INTERRUPTED, losses[MEAN_INTERRUPTED], exceeded)
        early, late = stations.extra_from[container], stations.extra_to[container]
        waited += max(0.0, lost - interrupted) + early + moment * (late - early)
        runs += interrupted
    return waited, runs


@inlined
def loss(row, begin, mean, exceeded):
    """The loss that is exceeded with a chance: even between two levels, as in `imbres_gym.sim.fluid.burst`.

    All are scaled so that they have the tabulated mean, of which a part lies beyond the rarest level.
    """
    low, tail, area, found = 0.0, 1.0, 0.0, -1.0
    for j in range(len(LEVELS)):
        high = max(low, np.float64(row[begin + j]))
        if found < 0.0 and exceeded > LEVELS[j]:
            found = low + (high - low) * (tail - exceeded) / (tail - LEVELS[j])
        area += 0.5 * (low + high) * (tail - LEVELS[j])
        low, tail = high, LEVELS[j]
    area += low * tail
    return (found if found >= 0.0 else low) * mean / area if area > 0.0 else 0.0


@inlined
def list_spans(step, c, calls, numbers, found, count):
    """Add the spans of a request, which is of class c; returns how many there are then."""
    fleet = step.fleet
    root = numbers[SPANS] + 1
    for i in range(len(calls)):
        call = calls[i]
        if i > 0:
            call.send += calls[call.parent].send
        if call.kind < 0:
            continue
        span = found[count]
        count += 1
        span.request, span.span = numbers[REQUESTS], root + i
        span.parent = root + call.parent if i > 0 else -1
        span.microservice, span.container = fleet.microservice[call.container], fleet.id[call.container]
        span.request_class = c
        span.start_s, span.end_s = (call.send + call.start) * 1e-3, (call.send + call.end) * 1e-3
        span.own_ms = call.own
    numbers[REQUESTS] += 1
    numbers[SPANS] += len(calls)
    return count
