"""A container: processor sharing under CFS bandwidth control, compiled (`docs/event-engine.md`, "A container")."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.tournament import set_time

EPSILON = 1e-6  # [ms] far above the rounding of an hour, far below any demand


@inlined
def sync(slot, now):
    """Bring a container's service and quota up to `now`; since its last event nothing else changed."""
    elapsed = now - slot.last
    work = slot.rate * elapsed
    slot.last = now
    slot.left -= work
    slot.used += work
    slot.tick_used += work
    slot.attained += slot.speed * elapsed
    if now >= slot.period_end - EPSILON:
        refill(slot, now)


@inlined
def refill(slot, now):
    """At least one period is over: the container gets the next quota; a debt is paid from every quota since."""
    over = math.floor((now - slot.period_end + EPSILON) / slot.period) + 1.0
    slot.period_end += slot.period * over
    slot.left = slot.quota + min(slot.left + (over - 1.0) * slot.quota, 0.0)


@inlined
def schedule(state, s, full_speed, now):
    """Set a container's speed, and when it changes next: a burst ends, the quota is spent or the period is over.

    `full_speed` is that of a burst with a core of its own, below 1 on an overloaded host.
    """
    slot = state.slots[s]
    active = float(slot.active)
    slot.rate = 0.0
    slot.speed = 0.0
    if active == 0.0:
        set_time(state.change, state.change_tree, s, np.inf)
        return
    time = slot.period_end
    usable = slot.left - min(slot.slack * max(0.0, slot.cpus - active), 0.5 * slot.quota)
    if usable > EPSILON:
        if slot.unmarked > 0:
            mark(state, s, now)
        slot.speed = full_speed
        if active > slot.parallelism:
            slot.speed *= slot.parallelism / active
        slot.rate = active * slot.speed
        to_serve = max(0.0, state.burst_end[s, 0] - slot.attained) * active
        time = min(time, now + min(to_serve, usable) / slot.rate)
    set_time(state.change, state.change_tree, s, time)


@inlined
def mark(state, s, now):
    """The threads of container s get CPU, some of them for the first time since they woke up."""
    slot = state.slots[s]
    if slot.unmarked == 1:
        gets_cpu(state.spans[slot.newest], now)
    else:
        for burst in range(slot.active):
            gets_cpu(state.spans[state.burst_span[s, burst]], now)
    slot.unmarked = 0


@inlined
def gets_cpu(span, now):
    """The thread of a span gets CPU: the span starts (rule 4), or the client span of its last call ends."""
    if span.start < 0.0:
        span.start = now - span.preempted
    elif span.waking >= 0.0:
        span.child += max(0.0, now - span.preempted - span.waking)
        span.waking = -1.0


@inlined
def join(state, s, i, demand):
    """A burst of span i joins those of container s, which is in sync; to be followed by `schedule`."""
    slot = state.slots[s]
    slot.unmarked += 1
    slot.newest = i
    if slot.active == 0:
        slot.attained = 0.0
    end, span = state.burst_end[s], state.burst_span[s]
    place = slot.active
    slot.active += 1
    key = slot.attained + demand
    while place > 0:
        above = (place - 1) >> 1
        if end[above] <= key:
            break
        end[place], span[place] = end[above], span[above]
        place = above
    end[place], span[place] = key, i


@inlined
def leave(state, s):
    """Remove the burst of container s that ends first; return its span."""
    slot = state.slots[s]
    end, span = state.burst_end[s], state.burst_span[s]
    first = span[0]
    slot.active -= 1
    size = slot.active
    key, moved = end[size], span[size]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and end[below + 1] < end[below]:
            below += 1
        if end[below] >= key:
            break
        end[place], span[place] = end[below], span[below]
        place = below
    end[place], span[place] = key, moved
    return first
