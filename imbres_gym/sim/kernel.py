"""The event loop of the event engine, compiled: requests come and go, spans and containers change in between.

The rules, and the numbers in comments, are those of `docs/event-engine.md`; what costs how much is in
`docs/engine-speed.md`. Times are in ms, CPU in core-ms. Nothing here allocates: when an array is nearly full the loop
returns between two events and Python grows it (`state.grow`).
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from imbres_gym.sim import balancers
from imbres_gym.sim.compiled import entry, inlined
from imbres_gym.sim.container import EPSILON, join, leave, schedule, sync
from imbres_gym.sim.program import MAX_PARALLEL_CALLS
from imbres_gym.sim.random import ARRIVALS, ROUTING, exponential, uniform
from imbres_gym.sim.spans import ANSWER, ARRIVE, BURST, answered, arrive, burst_done, call
from imbres_gym.sim.state import (
    FREE_REQUEST,
    FREE_SPAN,
    LIVE_REQUESTS,
    LIVE_SPANS,
    NEXT_ARRIVAL,
    NOW,
    OWN_SAMPLES,
    RATE,
    REQUEST_NUMBER,
    REQUEST_SAMPLES,
    TRACED,
)
from imbres_gym.sim.tournament import ROOT, set_time

GROWS = ("", "spans", "requests", "own_samples", "request_samples", "traced", "bursts")
"""Meaning of what `run` returns: "" when it is done, else the array that must grow before it can go on."""

BURSTS = 6


@inlined
def request_ends(state, i, now):
    """The answer of root span i reached the end user."""
    span = state.spans[i]
    request = state.requests[span.request]
    n = state.counters[REQUEST_SAMPLES]
    state.counters[REQUEST_SAMPLES] = n + 1
    sample = state.request_samples[n]
    sample.latency = now - request.arrival
    sample.class_ = request.class_
    sample.failed = 1 if request.failed or span.failed or now > request.deadline else 0
    request.link = state.counters[FREE_REQUEST]
    state.counters[FREE_REQUEST] = span.request
    state.counters[LIVE_REQUESTS] -= 1


@inlined
def next_arrival(state, now):
    """Draw when the next request comes at the current rate."""
    return now + exponential(state.streams, ARRIVALS, 1.0 / state.clock[RATE])


@inlined
def request_arrives(program, state, routes, world, now):
    """An end user sends a request; draw when the next one comes."""
    state.clock[NEXT_ARRIVAL] = next_arrival(state, now)
    u = uniform(state.streams, ARRIVALS) * program.class_cdf[-1]
    class_ = 0
    while program.class_cdf[class_] < u:
        class_ += 1
    state.arrived[class_] += 1
    r = state.counters[FREE_REQUEST]
    request = state.requests[r]
    state.counters[FREE_REQUEST] = request.link
    state.counters[LIVE_REQUESTS] += 1
    request.number = state.counters[REQUEST_NUMBER]
    state.counters[REQUEST_NUMBER] += 1
    request.arrival = now
    request.deadline = now + program.class_deadline_ms[class_]
    request.class_ = class_
    request.failed = 0
    request.sampled = 0
    if program.trace_sampling > 0.0 and uniform(state.streams, ROUTING) <= program.trace_sampling:
        request.sampled = 1
    call(program, state, routes, world, program.class_root[class_], -1, r, 0, now)


@inlined
def room(state):
    """Events that may surely be handled, and the index in `GROWS` of the array that would be full first.

    An event makes at most the calls of one stage, ends at most one span and begins or ends at most one request.
    """
    count = state.counters
    events, lacking = (len(state.spans) - count[LIVE_SPANS]) // MAX_PARALLEL_CALLS, 1
    left = len(state.requests) - count[LIVE_REQUESTS]
    if left < events:
        events, lacking = left, 2
    left = len(state.own_samples) - count[OWN_SAMPLES]
    if left < events:
        events, lacking = left, 3
    left = len(state.request_samples) - count[REQUEST_SAMPLES]
    if left < events:
        events, lacking = left, 4
    left = len(state.traced) - count[TRACED]
    if left < events:
        events, lacking = left, 5
    return events, lacking


@inlined
def container_changes(program, state, routes, world, s, now):
    """A burst of container s ends, or its quota, or the period."""
    slot = state.slots[s]
    runs = slot.rate > 0.0
    sync(slot, now)
    # What was throttled starts first, by `schedule`: nothing ends in an instant without CPU.
    if runs and state.burst_end[s, 0] <= slot.attained + EPSILON:
        burst_done(program, state, routes, world, leave(state, s), now)
    schedule(state, s, world.speed[slot.host], now)


@inlined
def message(program, state, routes, world, i, now):
    """The message of span i is due; return whether there was room to handle it."""
    span = state.spans[i]
    kind = span.message
    s = span.slot
    if kind == ANSWER:
        s = state.spans[span.parent].slot if span.parent >= 0 else -1
    if s < 0:
        set_time(state.due, state.due_tree, i, np.inf)
        balancers.received(state, routes, i, now)
        request_ends(state, i, now)
    else:
        slot = state.slots[s]
        if slot.active + 1 >= state.burst_end.shape[1]:
            return False
        set_time(state.due, state.due_tree, i, np.inf)
        sync(slot, now)
        if kind == ARRIVE:
            arrive(program, state, routes, world, i, now)
        elif kind == BURST:
            join(state, s, i, span.burst)
        else:
            balancers.received(state, routes, i, now)
            answered(program, state, routes, world, i, now)
        schedule(state, s, world.speed[slot.host], now)
    if kind == ANSWER:
        span.link = state.counters[FREE_SPAN]
        state.counters[FREE_SPAN] = i
        state.counters[LIVE_SPANS] -= 1
    return True


@entry
def run(program, state, routes, world, until):
    """Simulate up to `until`; return 0, or the index in `GROWS` of the array that must grow first."""
    events = 0
    while True:
        if events == 0:
            events, lacking = room(state)
            if events == 0:
                return lacking
        events -= 1
        arrival = state.clock[NEXT_ARRIVAL]
        s, i = state.change_tree[ROOT], state.due_tree[ROOT]
        change, due = state.change[s], state.due[i]
        now = min(arrival, change, due)
        if now > until:
            break
        state.clock[NOW] = now
        if now == change:
            container_changes(program, state, routes, world, s, now)
        elif now == due:
            if not message(program, state, routes, world, i, now):
                return BURSTS
        else:
            request_arrives(program, state, routes, world, now)
    state.clock[NOW] = until
    return 0


@entry
def settle(state, now):
    """Bring the CPU use of all containers up to `now`, so that it can be read."""
    for s in range(len(state.slots)):
        if state.slots[s].active > 0:
            sync(state.slots[s], now)


@entry
def set_speed(state, world, speed, now):
    """Hosts become slower or faster (`speed` replaces `world.speed`): reschedule the bursts in progress there."""
    for s in range(len(state.slots)):
        slot = state.slots[s]
        if slot.active > 0 and speed[slot.host] != world.speed[slot.host]:
            sync(slot, now)
            schedule(state, s, speed[slot.host], now)
