"""The event loop of the event engine, compiled: requests, spans, containers under CFS bandwidth control.

The rules, and the numbers in comments, are those of `docs/event-engine.md`. Times are in ms, CPU in core-ms. Nothing
here allocates: when an array is nearly full the loop returns between two events and Python grows it (`state.grow`).
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from imbres_gym.sim.compiled import entry, inlined
from imbres_gym.sim.random import ARRIVALS, DELAYS, DEMAND, ROUTING, exponential, gamma, uniform
from imbres_gym.sim.state import (
    FREE_REQUEST,
    FREE_SPAN,
    HEAP,
    LIVE_REQUESTS,
    LIVE_SPANS,
    NEXT_ARRIVAL,
    NOW,
    OWN_SAMPLES,
    RATE,
    REQUEST_NUMBER,
    REQUEST_SAMPLES,
    SPAN_UID,
    TRACED,
)

CONTAINER, ARRIVE, BURST, ANSWER = range(4)
"""Kinds of events: a container's next change; a request message arrives; a delayed burst starts; a call is answered.
The key of an event is subject * 4 + kind."""

GROWS = ("", "heap", "spans", "requests", "bursts", "own_samples", "request_samples", "traced")
"""Meaning of what `run` returns: "" when it is done, else the array that must grow before it can go on."""

MARGIN = 2_048  # entries that one event can add at most, see `FLUSH`
FLUSH = 1_024  # expired requests that leave an accept queue in one event
EPSILON = 1e-6  # [ms] far above the rounding of an hour, far below any demand


@inlined
def push(state, time, key, version):
    """Add an event to the heap."""
    heap = state.heap
    place = state.counters[HEAP]
    state.counters[HEAP] = place + 1
    while place > 0:
        above = (place - 1) >> 1
        if heap[above].time <= time:
            break
        heap[place] = heap[above]
        place = above
    heap[place].time = time
    heap[place].key = key
    heap[place].version = version


@inlined
def pop(state):
    """Remove the first event from the heap."""
    heap = state.heap
    size = state.counters[HEAP] - 1
    state.counters[HEAP] = size
    time = heap[size].time
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and heap[below + 1].time < heap[below].time:
            below += 1
        if heap[below].time >= time:
            break
        heap[place] = heap[below]
        place = below
    heap[place] = heap[size]


@inlined
def sync(slot, slow, now):
    """Bring a container's service and quota up to `now`; since its last event nothing else changed."""
    if slot.active > 0 and slot.throttled == 0:
        work = min(float(slot.active), slot.parallelism) / slow * (now - slot.last)
        slot.left -= work
        slot.attained += work / slot.active
        slot.used += work
        slot.tick_used += work
    if now >= slot.period_end - EPSILON:
        refill(slot, now)
    slot.last = now


@inlined
def refill(slot, now):
    """A period is over: the container gets the next quota."""
    passed = math.floor((now - slot.period_end + EPSILON) / slot.period)
    slot.period_end += slot.period * (passed + 1.0)
    slot.left = slot.quota + min(slot.left + passed * slot.quota, 0.0)


@inlined
def gets_cpu(span, now):
    """The thread of a span gets CPU: the span starts (rule 4), or the client span of its last call ends."""
    if span.start < 0.0:
        span.start = now - span.preempted
    elif span.waking >= 0.0:
        span.child += max(0.0, now - span.preempted - span.waking)
        span.waking = -1.0


@inlined
def schedule(state, s, slow, now):
    """Push a container's next change: a burst ends, the quota is spent or the period is over."""
    slot = state.slots[s]
    slot.version += 1  # outdates the event pushed before
    if slot.active == 0:
        return
    time = slot.period_end
    usable = slot.left - min(slot.slack * max(0.0, slot.cpus - slot.active), 0.5 * slot.quota)
    slot.throttled = 1 if usable <= EPSILON else 0
    if slot.throttled == 0:
        if slot.unmarked > 0:
            for burst in range(slot.active):
                gets_cpu(state.spans[state.burst_span[s, burst]], now)
            slot.unmarked = 0
        rate = min(float(slot.active), slot.parallelism) / slow
        to_serve = (state.burst_end[s, 0] - slot.attained) * slot.active
        time = min(time, now + max(0.0, min(to_serve, usable)) / rate)
    push(state, time, s * 4, slot.version)


@inlined
def join(state, s, i, demand, now):
    """A burst of span i starts in container s, which is in sync."""
    slot = state.slots[s]
    slot.unmarked += 1
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


@inlined
def choose(state, routes, low, high):
    """A container slot by the cumulative weights of a row (rule 1)."""
    u = uniform(state.streams, ROUTING) * routes.cdf[high - 1]
    while low < high - 1:
        middle = (low + high - 1) >> 1
        if routes.cdf[middle] >= u:
            high = middle + 1
        else:
            low = middle + 1
    return routes.target[low]


@inlined
def message_ms(program, state, world, microservice, host, other):
    """Half a hop between two hosts (rule 2)."""
    if program.hop_ms == 0.0:
        return 0.0
    u = max(world.network[host], world.network[other])
    mean = 0.5 * program.hop_ms * (1.0 + world.network_sensitivity[microservice] * (1.0 / (1.0 - u) - 1.0))
    return exponential(state.streams, DELAYS, mean)


@inlined
def new_span(state, node, parent, request, now):
    """Take a span from the free list."""
    i = state.counters[FREE_SPAN]
    span = state.spans[i]
    state.counters[FREE_SPAN] = span.link
    state.counters[LIVE_SPANS] += 1
    state.counters[SPAN_UID] += 1
    span.uid = state.counters[SPAN_UID]
    span.send = now
    span.start = -1.0
    span.end = now
    span.child = 0.0
    span.waking = -1.0
    span.node = node
    span.parent = parent
    span.request = request
    span.slot = -1
    span.pending = 0
    span.repeat = 0
    span.failed = 0
    return i


@inlined
def call(program, state, routes, world, node, parent, request, repeat, now):
    """Make one call: to a store, or to a container of a microservice (rules 1, 2, 7)."""
    i = new_span(state, node, parent, request, now)
    span = state.spans[i]
    span.repeat = repeat
    microservice = program.node_microservice[node]
    if microservice < 0:
        span.end = now + gamma(state.streams, DEMAND, program.store_shape, program.node_store_ms[node])
        push(state, span.end, i * 4 + ANSWER, 0)
        return
    low, high = routes.pool_low[microservice], routes.pool_high[microservice]
    caller = -1
    if parent >= 0:
        caller = state.spans[parent].slot
        pair = program.node_pair[node]
        if routes.low[pair, caller] < routes.high[pair, caller]:
            low, high = routes.low[pair, caller], routes.high[pair, caller]
    if low == high:  # no container takes requests
        span.failed = 1
        push(state, now, i * 4 + ANSWER, 0)
        return
    s = choose(state, routes, low, high)
    span.slot = s
    slot = state.slots[s]
    slot.inflight += 1
    other = state.slots[caller].host if caller >= 0 else slot.host
    push(state, now + message_ms(program, state, world, microservice, slot.host, other), i * 4 + ARRIVE, 0)


@inlined
def answer(program, state, world, i, now):
    """Send the answer of span i to its caller (rule 2)."""
    span = state.spans[i]
    slot = state.slots[span.slot]
    slot.inflight -= 1
    span.end = now
    other = state.slots[state.spans[span.parent].slot].host if span.parent >= 0 else slot.host
    push(state, now + message_ms(program, state, world, slot.microservice, slot.host, other), i * 4 + ANSWER, 0)


@inlined
def begin_burst(program, state, world, i, now):
    """The next CPU burst of span i: demand (rule 4) after scheduling delays (rule 5).

    The next stage is drawn here: one in which no call is made does not block, so its burst is part of this one.
    """
    span = state.spans[i]
    slot = state.slots[span.slot]
    mean = program.node_burst_ms[span.node] * world.stretch[slot.microservice, slot.host] * slot.factor
    shape = program.node_shape[span.node]
    demand = gamma(state.streams, DEMAND, shape, mean)
    while span.failed == 0 and span.stage < program.node_stage[span.node + 1]:
        span.made = draw_calls(program, state, span.stage)
        if span.made != 0:
            break
        span.stage += 1
        demand += gamma(state.streams, DEMAND, shape, mean)
    slot.left -= slot.wake_loss
    busy = world.contention[slot.microservice, slot.host]
    wake_up = 0.0
    span.preempted = 0.0
    if busy > 0.0:
        if uniform(state.streams, DELAYS) < busy:
            wake_up = exponential(state.streams, DELAYS, world.delay_ms)
        if uniform(state.streams, DELAYS) < 1.0 - math.exp(-busy * world.preemption_per_ms * demand):
            span.preempted = exponential(state.streams, DELAYS, world.delay_ms)
    if wake_up + span.preempted > 0.0:
        span.burst = demand
        push(state, now + wake_up + span.preempted, i * 4 + BURST, 0)
    else:
        join(state, span.slot, i, demand, now)


@inlined
def draw_calls(program, state, stage):
    """Which calls of a stage are made: one bit per child (rule 6)."""
    made = 0
    first = program.stage_child[stage]
    for child in range(first, program.stage_child[stage + 1]):
        probability = program.node_probability[program.child_node[child]]
        if probability == 1.0 or uniform(state.streams, DEMAND) <= probability:
            made |= 1 << (child - first)
    return made


@inlined
def start(program, state, world, i, now):
    """A worker takes the request of span i (rule 4)."""
    span = state.spans[i]
    state.slots[span.slot].busy += 1
    span.stage = program.node_stage[span.node]
    begin_burst(program, state, world, i, now)


@inlined
def arrive(program, state, world, i, now):
    """A request message reaches its container (rule 3)."""
    span = state.spans[i]
    slot = state.slots[span.slot]
    slot.arrivals += 1
    if now > state.requests[span.request].deadline:
        span.failed = 1
    elif slot.busy < slot.workers:
        start(program, state, world, i, now)
        return
    elif slot.queued < slot.queue_limit:
        if slot.queued == 0:
            slot.queue_head = i
        else:
            state.spans[slot.queue_tail].link = i
        slot.queue_tail = i
        slot.queued += 1
        return
    else:
        span.failed = 1
    answer(program, state, world, i, now)


@inlined
def finish(program, state, world, i, now):
    """Span i ends: record it, answer, and let its worker take the next request (rule 8)."""
    span = state.spans[i]
    slot = state.slots[span.slot]
    own = now - span.start - span.child
    background = program.node_background_ms[span.node]
    if background > 0.0:  # work that no answer waits for
        mean = background * world.stretch[slot.microservice, slot.host] * slot.factor
        background = gamma(state.streams, DEMAND, program.node_shape[span.node], mean)
        slot.left -= background
        slot.used += background
        slot.tick_used += background
    n = state.counters[OWN_SAMPLES]
    state.counters[OWN_SAMPLES] = n + 1
    sample = state.own_samples[n]
    sample.own = own
    sample.microservice = slot.microservice
    sample.host = slot.host
    request = state.requests[span.request]
    if request.sampled:
        n = state.counters[TRACED]
        state.counters[TRACED] = n + 1
        trace = state.traced[n]
        trace.request = request.number
        trace.span = span.uid
        trace.parent = state.spans[span.parent].uid if span.parent >= 0 else -1
        trace.microservice = slot.microservice
        trace.container = slot.id
        trace.request_class = request.class_
        trace.start_s = span.start * 1e-3
        trace.end_s = now * 1e-3
        trace.own_ms = own
    slot.busy -= 1
    answer(program, state, world, i, now)
    flushed = 0
    while slot.queued > 0:
        head = slot.queue_head
        waiting = state.spans[head]
        slot.queue_head = waiting.link
        slot.queued -= 1
        if now <= state.requests[waiting.request].deadline or flushed == FLUSH:
            start(program, state, world, head, now)
            break
        flushed += 1
        waiting.failed = 1
        answer(program, state, world, head, now)


@inlined
def burst_done(program, state, routes, world, i, now):
    """A burst of span i ended: make the calls of its next stage, or end it (rules 6 and 8)."""
    span = state.spans[i]
    stage = span.stage
    if span.failed or stage == program.node_stage[span.node + 1]:
        finish(program, state, world, i, now)
        return
    span.stage = stage + 1
    span.first = np.inf
    span.last = -np.inf
    first = program.stage_child[stage]
    for child in range(first, program.stage_child[stage + 1]):
        if span.made >> (child - first) & 1:
            node = program.child_node[child]
            span.pending += 1
            call(program, state, routes, world, node, i, span.request, program.node_repeat[node] - 1, now)


@inlined
def answered(program, state, routes, world, i, now):
    """The answer of span i reached its caller, a span (rule 6)."""
    child = state.spans[i]
    span = state.spans[child.parent]
    at_client = program.client_spans or child.slot < 0
    traced = program.node_traced[child.node] and (at_client or child.start >= 0.0)
    if traced:
        span.first = min(span.first, child.send if at_client else child.start)
        span.last = max(span.last, now if at_client else child.end)
    if child.failed:
        span.failed = 1
        state.requests[child.request].failed = 1
    if child.repeat > 0 and span.failed == 0:
        call(program, state, routes, world, child.node, child.parent, child.request, child.repeat - 1, now)
        return
    span.pending -= 1
    if span.pending == 0:
        span.child += max(0.0, span.last - span.first)
        if traced and at_client:  # it is the caller's thread that ends the client span, when it runs again
            span.waking = now
        begin_burst(program, state, world, child.parent, now)


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
def room(state, s):
    """Index in `GROWS` of an array that the next event may overrun, which may add a burst to container s; 0 if none."""
    count = state.counters
    if count[HEAP] + MARGIN > len(state.heap):
        return 1
    if count[LIVE_SPANS] + MARGIN > len(state.spans):
        return 2
    if count[LIVE_REQUESTS] + 1 > len(state.requests):
        return 3
    if s >= 0 and state.slots[s].active + 1 >= state.burst_end.shape[1]:
        return 4
    if count[OWN_SAMPLES] + MARGIN > len(state.own_samples):
        return 5
    if count[REQUEST_SAMPLES] + 1 > len(state.request_samples):
        return 6
    if count[TRACED] + MARGIN > len(state.traced):
        return 7
    return 0


@entry
def run(program, state, routes, world, until):
    """Simulate up to `until`; return 0, or the index in `GROWS` of the array that must grow first."""
    while True:
        now = state.clock[NEXT_ARRIVAL]
        if state.counters[HEAP] == 0 or state.heap[0].time > now:
            if now > until:
                break
            lacking = room(state, -1)
            if lacking:
                return lacking
            state.clock[NOW] = now
            request_arrives(program, state, routes, world, now)
            continue
        now = state.heap[0].time
        if now > until:
            break
        key = state.heap[0].key
        kind, i = key & 3, key >> 2
        if kind == CONTAINER and state.slots[i].version != state.heap[0].version:
            pop(state)
            continue
        s = i
        if kind == ANSWER:
            s = state.spans[i].parent
            if s >= 0:
                s = state.spans[s].slot
        elif kind != CONTAINER:
            s = state.spans[i].slot
        lacking = room(state, s)
        if lacking:
            return lacking
        pop(state)
        state.clock[NOW] = now
        slow = 1.0
        if s >= 0:
            slow = world.slow[state.slots[s].host]
            sync(state.slots[s], slow, now)
        if kind == CONTAINER:
            slot = state.slots[i]
            while slot.active > 0 and state.burst_end[i, 0] <= slot.attained + EPSILON:
                burst_done(program, state, routes, world, leave(state, i), now)
        elif kind == ARRIVE:
            arrive(program, state, world, i, now)
        elif kind == BURST:
            join(state, s, i, state.spans[i].burst, now)
        else:
            if s >= 0:
                answered(program, state, routes, world, i, now)
            else:
                request_ends(state, i, now)
            state.spans[i].link = state.counters[FREE_SPAN]
            state.counters[FREE_SPAN] = i
            state.counters[LIVE_SPANS] -= 1
        if s >= 0:
            schedule(state, s, slow, now)
    state.clock[NOW] = until
    return 0


@entry
def settle(state, world, now):
    """Bring the CPU use of all containers up to `now`, so that it can be read."""
    for s in range(len(state.slots)):
        slot = state.slots[s]
        if slot.active > 0:
            sync(slot, world.slow[slot.host], now)


@entry
def set_slow(state, world, slow, now):
    """Hosts become slower or faster (`slow` replaces `world.slow`): reschedule the bursts in progress there."""
    for s in range(len(state.slots)):
        slot = state.slots[s]
        if slot.active > 0 and slow[slot.host] != world.slow[slot.host]:
            sync(slot, world.slow[slot.host], now)
            schedule(state, s, slow[slot.host], now)
