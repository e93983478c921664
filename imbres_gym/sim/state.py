"""State of the event engine: a handful of record arrays that compiled code mutates and Python grows and copies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.balancing import Balancing, new_balancing
from imbres_gym.sim.random import seeded_streams
from imbres_gym.sim.tournament import tournament

SPAN = np.dtype(
    [
        ("uid", "i8"),  # number in the episode
        ("send", "f8"),  # the caller sent the request [ms]
        ("start", "f8"),  # its thread got CPU for the first time; -1 before
        ("end", "f8"),  # the answer left
        ("first", "f8"),  # first start and last end of traced calls in the current stage
        ("last", "f8"),
        ("child", "f8"),  # merged duration of the stages so far [ms]
        ("burst", "f8"),  # CPU demand of the burst that waits to start [core-ms]
        ("preempted", "f8"),  # preemption in that burst [ms]
        ("message", "i8"),  # what happens when its message is due, see `spans`
        ("waking", "f8"),  # when a call traced here was answered, until the thread runs again; else -1 [ms]
        ("made", "i8"),  # bits of the calls that the next stage makes
        ("node", "u4"),
        ("parent", "i4"),  # span, -1 at a root
        ("request", "u4"),
        ("slot", "i4"),  # container slot, -1 for a store
        ("stage", "i4"),  # next stage, an absolute index
        ("pending", "i4"),  # unanswered calls of the current stage
        ("repeat", "i4"),  # calls still to be made after this one
        ("link", "u4"),  # next in the accept queue or in the free list
        ("failed", "i4"),
    ]
)

REQUEST = np.dtype(
    [
        ("number", "i8"),
        ("arrival", "f8"),
        ("deadline", "f8"),
        ("class_", "i4"),
        ("failed", "i4"),
        ("sampled", "i4"),
        ("link", "u4"),
    ]
)

FREE, PENDING, READY, DRAINING, GONE = range(5)
"""Life of a container slot; one that is gone takes no room, but its last interval is still to be measured."""

SLOT = np.dtype(
    [
        ("last", "f8"),  # time up to which the fields down to `used` are true [ms]
        ("left", "f8"),  # quota left in this period [core-ms]
        ("attained", "f8"),  # service that a burst present all along would have got [core-ms]
        ("tick_used", "f8"),  # CPU since the last tick [core-ms]
        ("used", "f8"),  # CPU since the last telemetry [core-ms]
        ("rate", "f8"),  # cores in use, of the host's full speed
        ("speed", "f8"),  # of that for each burst
        ("period_end", "f8"),
        ("quota", "f8"),  # CPU per period that bursts may use [core-ms]
        ("slack", "f8"),  # quota that an idle CPU keeps to itself [core-ms]
        ("cpus", "f8"),  # CPUs that the container's threads are spread over
        ("parallelism", "f8"),
        ("active", "i4"),  # bursts in progress
        ("unmarked", "i4"),  # of them, those that joined since a thread last got CPU
        ("newest", "u4"),  # span of the burst that joined last
        ("host", "u4"),
        ("microservice", "u4"),
        ("factor", "f8"),  # connection factor
        ("wake_loss", "f8"),  # quota that a wake-up loses [core-ms]
        ("busy", "i4"),  # workers taken
        ("workers", "i4"),
        ("inflight", "i4"),  # calls sent to it and not yet answered
        ("queued", "i4"),
        ("queue_limit", "i4"),
        ("queue_head", "u4"),
        ("queue_tail", "u4"),
        ("life", "i4"),
        ("arrivals", "i8"),  # calls since the last telemetry
        ("period", "f8"),  # CFS bandwidth period [ms]
        ("id", "i8"),  # of the container
        ("created", "f8"),  # [ms]
        ("ready_at", "f8"),
    ]
)

OWN_SAMPLE = np.dtype([("own", "f8"), ("microservice", "u4"), ("host", "u4")])
REQUEST_SAMPLE = np.dtype([("latency", "f8"), ("class_", "i4"), ("failed", "i4")])

NOW, NEXT_ARRIVAL, RATE = range(3)
"""Places in `State.clock` [ms, ms, 1/ms]."""

(
    FREE_SPAN,
    FREE_REQUEST,
    SPAN_UID,
    REQUEST_NUMBER,
    OWN_SAMPLES,
    REQUEST_SAMPLES,
    TRACED,
    LIVE_SPANS,
    LIVE_REQUESTS,
) = range(9)
"""Places in `State.counters`: entries in use, heads of the free lists, numbers given out."""


class State(NamedTuple):
    """Everything that changes while requests are simulated."""

    clock: NDArray[np.float64]
    counters: NDArray[np.int64]
    arrived: NDArray[np.int64]  # (classes,) since the last telemetry
    streams: NDArray[np.uint64]
    spans: NDArray[np.void]
    due: NDArray[np.float64]  # (spans,) time of a span's message [ms], inf for none
    due_tree: NDArray[np.uint32]  # see `tournament`
    requests: NDArray[np.void]
    slots: NDArray[np.void]
    change: NDArray[np.float64]  # (slots,) time of a container's next change [ms], inf for none
    change_tree: NDArray[np.uint32]
    burst_end: NDArray[np.float64]  # (slots, bursts) attained service at which a burst is done: a heap per container
    burst_span: NDArray[np.uint32]
    own_samples: NDArray[np.void]
    request_samples: NDArray[np.void]
    traced: NDArray[np.void]
    balancing: Balancing


class Routes(NamedTuple):
    """Where calls go: cumulative weights over container slots.

    The row of (pair, upstream slot) is `low[pair, slot]:high[pair, slot]`; an empty row means the pool of the called
    microservice, `pool_low[m]:pool_high[m]`.
    """

    low: NDArray[np.int32]
    high: NDArray[np.int32]
    pool_low: NDArray[np.int32]
    pool_high: NDArray[np.int32]
    target: NDArray[np.uint32]
    cdf: NDArray[np.float64]
    balancer: int  # see `balancing`
    client: NDArray[np.int32]  # (pairs, slots); where weights decide (0, 0). The gateway of microservice m is client m


class World(NamedTuple):
    """What interference does at the moment."""

    stretch: NDArray[np.float64]  # (microservices, hosts)
    contention: NDArray[np.float64]  # (microservices, hosts) chance that a thread that wakes up has to wait
    delay_ms: float  # mean of such a wait
    preemption_per_ms: float  # rate of preemption per core-ms at contention 1
    network_wait: NDArray[np.float64]  # (microservices, hosts) by how much messages take longer, at sensitivity 1
    network_sensitivity: NDArray[np.float64]  # (microservices,)
    speed: NDArray[np.float64]  # (hosts,) of a burst with a core of its own: below 1 on an overloaded host


def new_state(seed: int, n_classes: int, traced_dtype: np.dtype[Any]) -> State:
    """An empty engine at time 0."""
    state = State(
        clock=np.array([0.0, np.inf, 0.0]),
        counters=np.zeros(9, np.int64),
        arrived=np.zeros(n_classes, np.int64),
        streams=seeded_streams(seed),
        spans=np.zeros(1_024, SPAN),
        due=np.full(1_024, np.inf),
        due_tree=tournament(np.full(1_024, np.inf)),
        requests=np.zeros(2_048, REQUEST),
        slots=np.zeros(64, SLOT),
        change=np.full(64, np.inf),
        change_tree=tournament(np.full(64, np.inf)),
        burst_end=np.zeros((64, 8)),
        burst_span=np.zeros((64, 8), np.uint32),
        own_samples=np.zeros(32_768, OWN_SAMPLE),
        request_samples=np.zeros(8_192, REQUEST_SAMPLE),
        traced=np.zeros(8_192, traced_dtype),
        balancing=new_balancing(),
    )
    _link_free(state.spans, 0)
    _link_free(state.requests, 0)
    return state


def _link_free(records: NDArray[np.void], first: int) -> None:
    """Chain the records from `first` on into a free list; what follows the last one is never used."""
    records["link"][first:] = np.arange(first + 1, len(records) + 1)


def _doubled(array: NDArray[Any], axis: int = 0) -> NDArray[Any]:
    return np.concatenate([array, np.zeros_like(array)], axis=axis)


def _never_added(times: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([times, np.full_like(times, np.inf)])


def grow(state: State, what: str) -> State:
    """A state with twice the room for `what` (a field name); the contents stay."""
    if what in {"spans", "requests"}:
        old = getattr(state, what)
        new = _doubled(old)
        head = FREE_SPAN if what == "spans" else FREE_REQUEST
        _link_free(new, len(old))
        new["link"][-1] = state.counters[head]
        state.counters[head] = len(old)
        if what == "requests":
            return state._replace(requests=new)
        due = _never_added(state.due)
        balancing = state.balancing._replace(calls=_doubled(state.balancing.calls))
        return state._replace(spans=new, due=due, due_tree=tournament(due), balancing=balancing)
    if what == "bursts":
        return state._replace(burst_end=_doubled(state.burst_end, 1), burst_span=_doubled(state.burst_span, 1))
    if what == "slots":
        change = _never_added(state.change)
        balancing = state.balancing
        return state._replace(
            slots=_doubled(state.slots),
            change=change,
            change_tree=tournament(change),
            burst_end=_doubled(state.burst_end),
            burst_span=_doubled(state.burst_span),
            balancing=balancing._replace(
                served=_doubled(balancing.served),
                latencies=_doubled(balancing.latencies),
                latency_counts=_doubled(balancing.latency_counts),
            ),
        )
    doubled: dict[str, Any] = {what: _doubled(getattr(state, what))}
    return state._replace(**doubled)
