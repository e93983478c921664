"""Spans: calls, CPU bursts and answers along the call tree, compiled (`docs/event-engine.md`, "A call")."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from imbres_gym.sim import balancers
from imbres_gym.sim.balancing import WEIGHTED
from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.container import join
from imbres_gym.sim.messages import message_ms
from imbres_gym.sim.random import DELAYS, DEMAND, ROUTING, exponential, gamma, uniform
from imbres_gym.sim.state import FREE_SPAN, LIVE_SPANS, OWN_SAMPLES, SPAN_UID, TRACED
from imbres_gym.sim.tournament import set_time

ARRIVE, BURST, ANSWER = range(3)
"""Kinds of messages of a span: its request arrives; its delayed burst starts; its answer arrives."""


@inlined
def send(state, i, kind, time):
    """The message of span i, which has no other, is due at `time`."""
    state.spans[i].message = kind
    set_time(state.due, state.due_tree, i, time)


@inlined
def choose(state, routes, low, high):
    """A container slot by the cumulative weights of a row (rule 1)."""
    u = uniform(state.streams, ROUTING) * routes.cdf[high - 1]
    size = high - low
    while size > 1:  # bisection without a branch on u, which could not be predicted
        half = size >> 1
        low += half * (routes.cdf[low + half - 1] < u)
        size -= half
    return routes.target[low]


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
        send(state, i, ANSWER, span.end)
        return
    low, high = routes.pool_low[microservice], routes.pool_high[microservice]
    caller, pair = -1, -1
    if parent >= 0:
        caller = state.spans[parent].slot
        pair = program.node_pair[node]
        row_low, row_high = routes.low[pair, caller], routes.high[pair, caller]
        if row_low < row_high:
            low, high = row_low, row_high
    if low == high:  # no container takes requests
        span.failed = 1
        send(state, i, ANSWER, now)
        return
    if routes.balancer == WEIGHTED:
        s = choose(state, routes, low, high)
    else:
        client = routes.client[pair, caller] if caller >= 0 else microservice
        link = balancers.pick(program, state, routes, world, client, low, high, caller, now)
        balancers.sent(state, i, link)
        s = routes.target[link]
    span.slot = s
    state.slots[s].inflight += 1
    send(state, i, ARRIVE, now + message_ms(program, state, world, s, caller if caller >= 0 else s))


@inlined
def answer(program, state, routes, world, i, now):
    """Send the answer of span i to its caller (rule 2)."""
    span = state.spans[i]
    balancers.answers(state, routes, i)
    state.slots[span.slot].inflight -= 1
    span.end = now
    caller = state.spans[span.parent].slot if span.parent >= 0 else span.slot
    send(state, i, ANSWER, now + message_ms(program, state, world, span.slot, caller))


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
        x = busy * world.preemption_per_ms * demand
        u = uniform(state.streams, DELAYS)
        if u > 1.0 - x and u > math.exp(-x):  # exp(-x) >= 1 - x: few have to compute it
            span.preempted = exponential(state.streams, DELAYS, world.delay_ms)
    if wake_up + span.preempted > 0.0:
        span.burst = demand
        send(state, i, BURST, now + wake_up + span.preempted)
    else:
        join(state, span.slot, i, demand)


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
def arrive(program, state, routes, world, i, now):
    """A request message reaches its container (rule 3)."""
    span = state.spans[i]
    slot = state.slots[span.slot]
    slot.arrivals += 1
    balancers.arrives(state, routes, i, now)
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
    answer(program, state, routes, world, i, now)


@inlined
def finish(program, state, routes, world, i, now):
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
    balancers.served(state, routes, i, now)
    answer(program, state, routes, world, i, now)
    while slot.queued > 0:
        head = slot.queue_head
        waiting = state.spans[head]
        slot.queue_head = waiting.link
        slot.queued -= 1
        if now <= state.requests[waiting.request].deadline:
            start(program, state, world, head, now)
            break
        waiting.failed = 1
        answer(program, state, routes, world, head, now)


@inlined
def burst_done(program, state, routes, world, i, now):
    """A burst of span i ended: make the calls of its next stage, or end it (rules 6 and 8)."""
    span = state.spans[i]
    stage = span.stage
    if span.failed or stage == program.node_stage[span.node + 1]:
        finish(program, state, routes, world, i, now)
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
