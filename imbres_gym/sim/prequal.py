"""Prequal (Wydrowski et al., NSDI'24, section 4), compiled: probes of calls in flight (RIF) and latency decide.

Asynchronous mode with the paper's constants. An answer carries what is true when its probe is sent, half a hop early,
and reaches the client after the two messages of a hop.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from imbres_gym.sim.balancing import MAX_RIF, POOL, RECENT_LATENCIES, RECENT_RIFS, RIF_BUCKETS, TRAVELLING
from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.messages import message_ms
from imbres_gym.sim.random import ROUTING, below, uniform

PROBES = 3
"""Probes per call, r_probe."""
MAX_AGE_MS = 1_000.0
"""Age at which an answer is dropped."""
RIF_QUANTILE = 2.0**-0.25
"""Quantile of recent calls in flight above which a container is hot, Q_RIF."""
MEMORY_MS = 10_000.0
"""Latencies older than this are not recent any more; the paper names no time. Without a limit, a server whose last
latencies were bad would get no calls that show that it is well again. Estimate."""
REMOVED = 1.0
"""Answers removed per call, r_remove."""
DELTA = 1.0
"""By how much more answers are used up than come in."""


@inlined
def probe_and_pick(program, state, routes, world, client, low, high, caller, now):
    """The link of a client's next call, by the answers in its pool; then clean the pool and send new probes."""
    balancing = state.balancing
    me, pool = balancing.clients[client], balancing.pool[client]
    receive(balancing, state.streams, client, high - low, now)
    drop_old(me, pool, now)
    if me.answers < 2:
        link = low + below(state.streams, ROUTING, high - low)
    else:
        limit = hot_limit(balancing.rif_counts[client], min(me.rifs, RECENT_RIFS))
        best = best_answer(pool, me.answers, limit)
        link = pool[best].link
        pool[best].rif += 1
        pool[best].uses -= 1
        if pool[best].uses <= 0:
            remove(me, pool, best)
        remove_one(me, pool, limit)
    send_probes(program, state, routes, world, client, low, high, caller, now)
    return link


@inlined
def receive(balancing, streams, client, n, now):
    """Answers that have come in by now go to the pool."""
    me, travelling = balancing.clients[client], balancing.travelling[client]
    place = 0
    while place < me.travelling:
        probe = travelling[place]
        if probe.received <= now:
            if probe.link >= 0:
                remember_rif(balancing, client, probe.rif)
                uses = reuse_budget(n)
                probe.uses = int(uses + 1.0 - uniform(streams, ROUTING))
                keep(me, balancing.pool[client], probe)
            me.travelling -= 1
            copy(travelling[me.travelling], probe)
        else:
            place += 1


@inlined
def reuse_budget(n):
    """How often an answer may be used, on average, by a client of n containers: as many as come in, and no fewer."""
    come_in = (1.0 - POOL / n) * PROBES - REMOVED
    if come_in <= 0.0:
        return float(POOL)
    return min(float(POOL), max(1.0, (1.0 + DELTA) / come_in))


@inlined
def remember_rif(balancing, client, rif):
    """The ring of recent calls in flight takes one more."""
    me, ring, counts = balancing.clients[client], balancing.rifs[client], balancing.rif_counts[client]
    place = me.rifs % RECENT_RIFS
    if me.rifs >= RECENT_RIFS:
        counts[ring[place]] -= 1
    ring[place] = min(rif, MAX_RIF)
    counts[ring[place]] += 1
    me.rifs += 1


@inlined
def keep(me, pool, probe):
    """An answer replaces an older one of its container, or in a full pool the oldest."""
    place = me.answers
    for k in range(me.answers):
        if pool[k].link == probe.link:
            place = k
    if place == me.answers:
        if me.answers < POOL:
            me.answers += 1
        else:
            place = oldest(pool, me.answers)
    elif pool[place].received > probe.received:
        return
    copy(probe, pool[place])


@inlined
def copy(source, target):
    """Field by field."""
    target.link = source.link
    target.rif = source.rif
    target.latency = source.latency
    target.received = source.received
    target.uses = source.uses


@inlined
def drop_old(me, pool, now):
    """Answers that are too old, or whose link is gone, leave the pool."""
    k = 0
    while k < me.answers:
        if pool[k].link < 0 or now - pool[k].received > MAX_AGE_MS:
            remove(me, pool, k)
        else:
            k += 1


@inlined
def remove(me, pool, k):
    """The last answer takes the place of answer k."""
    me.answers -= 1
    copy(pool[me.answers], pool[k])


@inlined
def remove_one(me, pool, limit):
    """Remove the oldest answer and the worst in turn."""
    if me.answers > 0:
        remove(me, pool, worst_answer(pool, me.answers, limit) if me.remove_worst else oldest(pool, me.answers))
        me.remove_worst = 1 - me.remove_worst


@inlined
def oldest(pool, n):
    """The answer that was received first."""
    place = 0
    for k in range(1, n):
        if pool[k].received < pool[place].received:
            place = k
    return place


@inlined
def hot_limit(counts, n):
    """The smallest number of calls in flight that at least the quantile of n recent ones do not exceed."""
    seen, rif = counts[0], 0
    while seen < RIF_QUANTILE * n:
        rif += 1
        seen += counts[rif]
    return rif


@inlined
def best_answer(pool, n, limit):
    """The hot-cold lexicographic rule: of cold ones the lowest latency, and if all are hot the fewest in flight."""
    best = 0
    for k in range(1, n):
        cold = pool[k].rif <= limit and pool[best].rif <= limit
        if (pool[k].latency < pool[best].latency) if cold else (pool[k].rif < pool[best].rif):
            best = k
    return best


@inlined
def worst_answer(pool, n, limit):
    """Of hot ones the most in flight, and if all are cold the highest latency."""
    worst = 0
    for k in range(1, n):
        cold = pool[k].rif <= limit and pool[worst].rif <= limit
        if (pool[k].latency > pool[worst].latency) if cold else (pool[k].rif > pool[worst].rif):
            worst = k
    return worst


@inlined
def send_probes(program, state, routes, world, client, low, high, caller, now):
    """Probe different random containers."""
    me, travelling = state.balancing.clients[client], state.balancing.travelling[client]
    last = before_last = -1
    for _ in range(min(PROBES, high - low)):
        if me.travelling == TRAVELLING:
            break
        link = low + below(state.streams, ROUTING, high - low)
        while link in (last, before_last):
            link = low + below(state.streams, ROUTING, high - low)
        last, before_last = link, last
        s = routes.target[link]
        slot = state.slots[s]
        probe = travelling[me.travelling]
        me.travelling += 1
        probe.link = link
        probe.rif = slot.busy + slot.queued
        probe.latency = estimate(state.balancing, s, probe.rif, now - MEMORY_MS)
        other = caller if caller >= 0 else s
        hop = message_ms(program, state, world, s, other) + message_ms(program, state, world, s, other)
        probe.received = now + hop


@inlined
def estimate(balancing, s, rif, since):
    """Median of the recent latencies of a server at the calls in flight nearest to `rif`, the fewer first; 0: none."""
    counts = balancing.latency_counts[s]
    middle = min(rif, RIF_BUCKETS - 1)
    for distance in range(RIF_BUCKETS):
        for bucket in (middle - distance, middle + distance):
            if 0 <= bucket < RIF_BUCKETS and counts[bucket] > 0:
                n = min(counts[bucket], RECENT_LATENCIES)
                latency = median(balancing.latencies[s, bucket], n, since)
                if latency >= 0.0:
                    return latency
    return 0.0


@inlined
def median(ring, n, since):
    """The lower median of the latencies since a time, of n few enough to count how many are below each; -1: none."""
    recent = 0
    for i in range(n):
        recent += ring[i, 1] >= since
    rank = (recent - 1) // 2
    for i in range(n):
        if ring[i, 1] >= since:
            smaller, equal = 0, 0
            for j in range(n):
                smaller += ring[j, 1] >= since and ring[j, 0] < ring[i, 0]
                equal += ring[j, 1] >= since and ring[j, 0] == ring[i, 0]
            if smaller <= rank < smaller + equal:
                return ring[i, 0]
    return -1.0


@inlined
def call_arrives(state, i, now):
    """Note when span i arrives, and how many calls are in flight there."""
    slot = state.slots[state.spans[i].slot]
    call = state.balancing.calls[i]
    call.rif = slot.busy + slot.queued
    call.arrived = now


@inlined
def call_served(state, i, now):
    """The server remembers the latency of span i."""
    call = state.balancing.calls[i]
    if call.arrived < 0.0:
        return
    s, bucket = state.spans[i].slot, min(call.rif, RIF_BUCKETS - 1)
    count = state.balancing.latency_counts[s, bucket]
    state.balancing.latencies[s, bucket, count % RECENT_LATENCIES, 0] = now - call.arrived
    state.balancing.latencies[s, bucket, count % RECENT_LATENCIES, 1] = now
    state.balancing.latency_counts[s, bucket] = count + 1
