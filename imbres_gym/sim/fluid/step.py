"""One step of one episode, compiled: flows, stations, latencies, and what is counted of them.

It calls the model's parts in order; nothing here is a part of the model itself.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.fluid import compose, draw, end_to_end, flow, own, station, weather
from imbres_gym.sim.fluid.compiled import allocating, kernel
from imbres_gym.sim.fluid.fleet import Fleet
from imbres_gym.sim.fluid.kinds import Kinds
from imbres_gym.sim.fluid.surfaces import WIDTH
from imbres_gym.sim.state import DRAINING

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDS = 4
"""Upstream overload holds back calls, which may end overload downstream: passes over the flow of a step, at most.
A choice: what has not settled then does in the next step."""

SETTLED = 1e-3
"""Change of the share of calls that pass below which another pass is not worth it: a choice."""


class Model(NamedTuple):
    """What does not change in an episode."""

    limits: station.Limits
    tables: station.Tables
    tails: own.Tails
    response: weather.Response
    store_shape: float
    waves: Floats  # see `draw.bridge_waves`
    sla_ms: float
    idle_cores: Floats  # (M,)
    host_cores: float


class Work(NamedTuple):
    """What is computed in a step for n containers, r pairs of kind and container, c cells, K kinds and C classes."""

    stations: station.Stations  # how the containers fare
    weather: weather.Weather
    rates: Floats  # (r,) calls/s, see `Fleet.kind_begin`
    losses: NDArray[np.float32]  # (r, WIDTH) of a burst to the quota [ms]
    runs: Ints  # (r,) see `station.look_up`
    spread: Floats  # (K,)
    refused: Floats  # (K,) calls/s that find no container
    before: Floats  # (n,) work left over at the start [core-s]
    passed: Floats  # (n,) of the pass before
    used: Floats  # (H,) cores
    class_rps: Floats  # (C,) requests/s
    of_class: Floats  # (C,) requests that arrive
    of_container: Floats  # (n,) calls that arrive
    expected: Floats  # (n,)
    noise: Floats  # (n,)
    moments: Floats  # (c, 4) of the own latency
    quantiles: Floats  # (c, levels)
    ended: Floats  # (c,) spans
    mean: Floats  # (c,) measured
    p95: Floats  # (c,)
    scale: Floats  # (c,)
    of_microservice: Floats  # (M,) p95 of own latency
    times: compose.Times
    composed: end_to_end.Composed
    fails: Floats  # (K,) chance
    answered: Floats  # (K,) share
    excess: Floats  # (K,)
    inflation: Floats  # (C,)
    every: Floats  # (C,) requests that end
    failed: Floats  # (C,) of them
    latencies: Floats  # (C, LISTED) of requests that end without failure, sorted
    listed: Ints  # (C,) how many there are
    bin_of: Ints  # (LISTED + 1,)
    bridge: Floats  # (BRIDGE_POINTS,)
    upto: Floats  # (BINS + 1,)


class Tally(NamedTuple):
    """Sums since the last telemetry.

    Attributes:
        arrived, ended, failed, slow: (C,) requests.
        samples: (M, H) spans that ended.
        mean, p95: (M, H) sums over spans of the own latency of their step [ms].
        microservice_p95: (M,) likewise.
        latencies: (C, room) of requests that ended without failure, sorted step by step [ms].
        listed: (C,) how many there are.
    """

    arrived: Ints
    ended: Ints
    failed: Ints
    slow: Ints
    samples: Ints
    mean: Floats
    p95: Floats
    microservice_p95: Floats
    latencies: Floats
    listed: Ints


def new_work(kinds: Kinds, fleet: Fleet, n_hosts: int) -> Work:
    """Room for the steps of a fleet."""
    n, r, cells = len(fleet.id), int(fleet.kind_begin[-1]), len(fleet.cell_place)
    n_kinds, n_classes = len(kinds.microservice), len(kinds.root)
    return Work(
        stations=station.new_stations(n),
        weather=weather.new_weather(cells, n_hosts),
        rates=np.zeros(r),
        losses=np.zeros((r, WIDTH), np.float32),
        runs=np.zeros(r, np.int64),
        spread=np.zeros(n_kinds),
        refused=np.zeros(n_kinds),
        before=np.zeros(n),
        passed=np.zeros(n),
        used=np.zeros(n_hosts),
        class_rps=np.zeros(n_classes),
        of_class=np.zeros(n_classes),
        of_container=np.zeros(n),
        expected=np.zeros(n),
        noise=np.zeros(n),
        moments=np.zeros((cells, 4)),
        quantiles=np.zeros((cells, own.N_LEVELS)),
        ended=np.zeros(cells),
        mean=np.zeros(cells),
        p95=np.zeros(cells),
        scale=np.zeros(cells),
        of_microservice=np.zeros(len(fleet.begin) - 1),
        times=compose.new_times(n_kinds, len(kinds.child) - 1),
        composed=end_to_end.new_composed(n_classes),
        fails=np.zeros(n_kinds),
        answered=np.zeros(n_kinds),
        excess=np.zeros(n_kinds),
        inflation=np.zeros(n_classes),
        every=np.zeros(n_classes),
        failed=np.zeros(n_classes),
        latencies=np.zeros((n_classes, draw.LISTED)),
        listed=np.zeros(n_classes, np.int64),
        bin_of=np.zeros(draw.LISTED + 1, np.int64),
        bridge=np.zeros(draw.BRIDGE_POINTS),
        upto=np.zeros(end_to_end.BINS + 1),
    )


def new_tally(n_microservices: int, n_hosts: int, n_classes: int) -> Tally:
    """Nothing has happened."""
    shape = (n_microservices, n_hosts)
    return Tally(
        arrived=np.zeros(n_classes, np.int64),
        ended=np.zeros(n_classes, np.int64),
        failed=np.zeros(n_classes, np.int64),
        slow=np.zeros(n_classes, np.int64),
        samples=np.zeros(shape, np.int64),
        mean=np.zeros(shape),
        p95=np.zeros(shape),
        microservice_p95=np.zeros(n_microservices),
        latencies=np.zeros((n_classes, draw.LISTED)),
        listed=np.zeros(n_classes, np.int64),
    )


@allocating
def step(episode, pool_weight, background, rps, seconds):
    """Let `seconds` pass in which nothing changes but the load of the hosts, and count what happens.

    Args:
        episode: the `Bundle`; its state, `work` and `tally` are brought up to date.
        pool_weight: (n,) share of a microservice's load that a container gets by the load proportions.
        background: (H, 4) utilisation of the hosts by others.
        rps: end-user requests/s.
        seconds: how long.
    """
    _step(
        episode.model,
        episode.kinds,
        episode.fleet,
        episode.rows,
        pool_weight,
        episode.factor,
        background,
        rps,
        seconds,
        episode.utilisation,
        episode.slots,
        episode.streams,
        episode.work,
        episode.tally,
    )
    keep_latencies(episode.work, episode.tally)


@kernel
def keep_latencies(work, tally):
    """List those of the step; there must be room for `draw.LISTED` more of each class."""
    for c in range(len(tally.listed)):
        before, more = tally.listed[c], work.listed[c]
        for i in range(more):
            tally.latencies[c, before + i] = work.latencies[c, i]
        tally.listed[c] = before + more


@kernel
def _step(
    model, kinds, fleet, rows, pool_weight, factor, background, rps, seconds, utilisation, slots, streams, work, tally
):
    """As `step`, of the parts of a bundle.

    `kinds.groups` and `second_ms2` are brought up to date; `utilisation` (H, 4), by all that runs there and above 1
    where a host is overloaded, is of the last step, and then of this one.
    """
    stations, n = work.stations, len(fleet.id)
    for i in range(n):
        work.before[i] = slots[fleet.slot[i]].excess
        stations.passed[i] = 1.0
    for c in range(len(work.class_rps)):
        work.class_rps[c] = kinds.class_share[c] * rps
    weather.feel(model.response, fleet, utilisation, work.weather)
    for _ in range(ROUNDS):
        for i in range(n):
            work.passed[i] = stations.passed[i]
        flow.propagate(
            kinds, fleet, rows, pool_weight, work.class_rps, work.passed, work.rates, work.spread, work.refused
        )
        station.gather(kinds, fleet, work.rates, stations)
        meet(model, fleet, factor, background, utilisation, work)
        station.settle(model.limits, model.tables, fleet, factor, work.weather, seconds, work.before, stations)
        change = 0.0
        for i in range(n):
            change = max(change, abs(work.passed[i] - stations.passed[i]))
        if change < SETTLED:
            break
    station.look_up(kinds, model.limits, model.tables, fleet, stations, work.rates, work.losses, work.runs)
    draw.count_arrivals(
        kinds,
        fleet,
        work.rates,
        work.class_rps,
        seconds,
        streams,
        work.of_class,
        work.of_container,
        work.expected,
        work.noise,
    )
    count_work(model, fleet, seconds, slots, work)
    spans(model, kinds, fleet, streams, work, tally)
    requests(model, kinds, fleet, streams, work)
    draw.draw_requests(model.waves, streams, work, kinds.deadline_ms, model.sla_ms, tally)
    for c in range(len(work.of_class)):
        tally.arrived[c] += np.int64(work.of_class[c])
    for k in range(len(kinds.groups)):
        kinds.groups[k], kinds.second_ms2[k] = work.times.groups[k], work.times.second_ms2[k]


@kernel
def meet(model, fleet, factor, background, utilisation, work):
    """Interference at these rates, the containers' own part included."""
    station.own_use(model.limits, fleet, factor, work.weather, work.stations, work.used)
    for i in range(len(fleet.id)):
        work.used[fleet.host[i]] += model.idle_cores[fleet.microservice[i]]
    for h in range(len(utilisation)):
        for j in range(utilisation.shape[1]):
            utilisation[h, j] = background[h, j]
        utilisation[h, 0] += work.used[h] / model.host_cores
    weather.feel(model.response, fleet, utilisation, work.weather)


@kernel
def count_work(model, fleet, seconds, slots, work):
    """Calls and CPU use of the containers, and the work that is left over; removed ones do what they have."""
    limits, stations = model.limits, work.stations
    for i in range(len(fleet.id)):
        slot = fleet.slot[i]
        cores = limits.quota[fleet.microservice[i]] / limits.period_ms
        surprise = work.of_container[i] / work.expected[i] if work.expected[i] > 0.0 else 1.0
        slots[slot].arrivals += np.int64(work.of_container[i])
        slots[slot].used += min(stations.used[i] * surprise, cores) * seconds
        slots[slot].excess = stations.excess[i]
    for slot in range(len(slots)):
        if slots[slot].life == DRAINING:
            cores = limits.quota[slots[slot].microservice] / limits.period_ms
            slots[slot].excess = max(0.0, slots[slot].excess - cores * seconds)


@kernel
def spans(model, kinds, fleet, streams, work, tally):
    """Own latency per microservice and host, of the spans that end in the step."""
    own.own_latency(
        kinds,
        fleet,
        work.stations,
        model.response,
        work.weather,
        model.tails,
        model.store_shape,
        work.rates,
        work.losses,
        work.runs,
        work.moments,
        work.quantiles,
    )
    work.ended[:] = 0.0
    for i in range(len(fleet.id)):
        work.ended[fleet.cell[i]] += work.of_container[i] * min(work.stations.passed[i], 1.0)
    for cell in range(len(work.ended)):
        work.ended[cell] = np.rint(work.ended[cell])
    draw.measured_own(work.moments, work.quantiles, work.ended, streams, work.mean, work.p95, work.scale)
    own.over_hosts(fleet, work.ended, work.quantiles, work.of_microservice, work.scale)
    n_hosts = tally.samples.shape[1]
    for m in range(len(work.of_microservice)):
        for cell in range(fleet.cell_begin[m], fleet.cell_begin[m + 1]):
            host, ended = fleet.cell_place[cell] - m * n_hosts, work.ended[cell]
            tally.samples[m, host] += np.int64(ended)
            tally.mean[m, host] += ended * work.mean[cell]
            tally.p95[m, host] += ended * work.p95[cell]
            tally.microservice_p95[m] += ended * work.of_microservice[m]


@kernel
def requests(model, kinds, fleet, streams, work):
    """E2E latency of each class, and how many requests end and fail."""
    compose.compose(
        kinds,
        fleet,
        work.stations,
        model.response,
        work.weather,
        model.store_shape,
        work.rates,
        work.losses,
        work.runs,
        work.times,
    )
    end_to_end.end_to_end(kinds, model.response, work.times, work.composed)
    compose.outcomes(kinds, fleet, work.stations, work.rates, work.refused, work.fails, work.answered)
    draw.class_inflation(kinds, fleet, work.rates, work.losses, work.runs, work.composed, work.excess, work.inflation)
    for c in range(len(kinds.root)):
        work.every[c] = np.rint(work.of_class[c] * work.answered[kinds.root[c]])
        work.failed[c] = work.fails[kinds.root[c]]
    draw.failures(streams, work.every, work.failed)
