"""Balancers that pick the container of each single call, compiled (`docs/event-engine.md`, "Balancers").

Every function works on the links `low:high` of one client, which is at least one, and returns the link that it picks.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

from imbres_gym.sim.balancing import LEAST_REQUEST, PEAK_EWMA, PREQUAL, WEIGHTED, WEIGHTED_ROUND_ROBIN
from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.prequal import call_arrives, call_served, probe_and_pick
from imbres_gym.sim.random import ROUTING, below, uniform

TAU_MS = 10_000.0
"""Decay of peak-EWMA's moving average [ms]: linkerd's default."""


@inlined
def pick(program, state, routes, world, client, low, high, caller, now):
    """The link of a client's next call; `caller` is its slot, -1 for a gateway."""
    if routes.balancer == LEAST_REQUEST:
        return least_request(state.balancing.links, state.streams, low, high)
    if routes.balancer == PEAK_EWMA:
        return peak_ewma(state.balancing.links, state.streams, low, high, now)
    if routes.balancer == WEIGHTED_ROUND_ROBIN:
        return round_robin(state.balancing, state.streams, client, low, high)
    return probe_and_pick(program, state, routes, world, client, low, high, caller, now)


@inlined
def least_request(links, streams, low, high):
    """Of two random containers, drawn with replacement, that with fewer calls in flight (Envoy, choice_count 2)."""
    first = low + below(streams, ROUTING, high - low)
    second = low + below(streams, ROUTING, high - low)
    return second if links[second].active < links[first].active else first


@inlined
def peak_ewma(links, streams, low, high, now):
    """Of two different random containers, that with the lower cost (tower's p2c and load::PeakEwma)."""
    if high - low == 1:
        return low
    first = low + below(streams, ROUTING, high - low)
    second = low + below(streams, ROUTING, high - low - 1)
    if second >= first:
        second += 1
    return second if cost(links[second], now) < cost(links[first], now) else first


@inlined
def cost(link, now):
    """Moving average of the latency times calls in flight, the next one included; looking counts as a sample of 0."""
    observe(link, 0.0, now)
    return link.latency * (link.active + 1)


@inlined
def observe(link, latency, now):
    """A latency above the average becomes the average; one below it pulls it down as time passes."""
    if latency > link.latency:
        link.latency = latency
    else:
        old = math.exp((link.updated - now) / TAU_MS)
        link.latency = link.latency * old + latency * (1.0 - old)
    link.updated = now


@inlined
def round_robin(balancing, streams, client, low, high):
    """Earliest deadline first: a link's turns are 1 / weight apart in virtual time, the first at a random phase."""
    me = balancing.clients[client]
    best = low
    for i in range(low, high):
        link = balancing.links[i]
        if math.isnan(link.turn):
            link.turn = me.turn + uniform(streams, ROUTING) / link.weight
        if link.turn < balancing.links[best].turn:
            best = i
    link = balancing.links[best]
    me.turn = link.turn
    link.turn += 1.0 / link.weight
    return best


@inlined
def sent(state, i, link):
    """Span i is sent on a link."""
    state.balancing.calls[i].link = link
    state.balancing.links[link].active += 1


@inlined
def received(state, routes, i, now):
    """The answer of span i, or the error, is back at its client."""
    if routes.balancer == WEIGHTED or state.spans[i].slot < 0:
        return
    index = state.balancing.calls[i].link
    if index >= 0:
        link = state.balancing.links[index]
        link.active -= 1
        if routes.balancer == PEAK_EWMA:
            observe(link, now - state.spans[i].send, now)


@inlined
def arrives(state, routes, i, now):
    """Span i arrives at its container."""
    if routes.balancer == PREQUAL:
        call_arrives(state, i, now)


@inlined
def served(state, routes, i, now):
    """The container of span i has done its work."""
    if routes.balancer == PREQUAL:
        call_served(state, i, now)


@inlined
def answers(state, routes, i):
    """The container of span i answers, perhaps with an error."""
    if routes.balancer == WEIGHTED_ROUND_ROBIN:
        span = state.spans[i]
        count = state.balancing.served[span.slot]
        count[0] += 1
        count[1] += span.failed
