"""Telemetry of one interval of the fluid engine."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.measured import CHURN, CONTAINERS, INTERVAL_S, TIME_S, Measured
from imbres_gym.percentiles import sort_if_needed, summarise
from imbres_gym.sim.containers import count_containers
from imbres_gym.sim.fluid.compiled import allocating
from imbres_gym.sim.fluid.episode import FluidEpisode
from imbres_gym.sim.fluid.fleet import changed_connections, shares_between_hosts
from imbres_gym.sim.state import FREE, GONE

Ints = NDArray[np.int64]


def measure(
    episode: FluidEpisode, cores: NDArray[np.float64], up: Ints, down: Ints, measured: Measured, rerouted: bool
) -> None:
    """Measure the interval that ends now, and start the next one.

    Args:
        episode: its state is that at the end of the interval.
        cores: (M,) quota of a container.
        up: (P,) upstream microservice of each pair.
        down: (P,) downstream microservice.
        measured: of the episode's bundle; is overwritten.
        rerouted: whether its `pair_share` is of other shares of load than the episode's.
    """
    topology, end_s, before = episode.topology, episode.now_s, episode.measured
    measured.counts[CHURN] = (
        changed_connections(before.fleet, before.rows, topology.fleet, topology.rows, up, down)
        if before.rows is not topology.rows
        else 0
    )
    measured.ready[...] = episode.ready
    measured.wanted[...] = episode.wanted
    measured.proportions[...] = episode.proportions
    measured.connections[...] = topology.connections
    _count(episode.bundle, cores, up, down, episode.pool_weight, rerouted, end_s - episode.measured_s, end_s)
    episode.measured_s = end_s
    episode.measured = topology
    episode.steps = 0


@allocating
def _count(episode, quotas, up, down, pool_weight, rerouted, seconds, end_s):
    """Overwrite the other fields of the bundle's `measured`; counting starts anew."""
    if rerouted:
        shares_between_hosts(episode.fleet, episode.rows, up, down, pool_weight, episode.measured.pair_share)
    slots, tally, model, measured = episode.slots, episode.tally, episode.model, episode.measured
    latency, microservice_p95 = episode.latency, episode.microservice_p95
    n_microservices, n_hosts = tally.samples.shape
    measured.clock[TIME_S], measured.clock[INTERVAL_S] = end_s, seconds
    for m in range(n_microservices):
        spans = 0
        for h in range(n_hosts):
            count = tally.samples[m, h]
            spans += count
            if count > 0:
                latency[0, m, h] = tally.mean[m, h] / count
                latency[1, m, h] = tally.p95[m, h] / count
                latency[2, m, h] = end_s
            measured.own_latency_ms[m, h], measured.own_p95_ms[m, h] = latency[0, m, h], latency[1, m, h]
            measured.age_s[m, h] = end_s - latency[2, m, h]
            measured.samples[m, h] = count
        if spans > 0:
            microservice_p95[m] = tally.microservice_p95[m] / spans
        measured.microservice_p95_ms[m] = microservice_p95[m]
    measured.counts[CONTAINERS] = count_containers(slots, quotas, model.idle_cores, 1.0, seconds, end_s, measured)
    for h in range(n_hosts):
        for j in range(episode.utilisation.shape[1]):
            measured.interference[h, j] = min(episode.utilisation[h, j], 1.0)
    for c in range(len(tally.ended)):
        measured.requests[c], measured.failed[c] = tally.ended[c], tally.failed[c]
        measured.slow[c], measured.workload_rps[c] = tally.slow[c], tally.arrived[c] / seconds
        listed = tally.listed[c]
        values = measured.latencies_ms[c, :listed]
        values[:] = tally.latencies[c, :listed]
        measured.listed[c] = listed
        if listed > 0:
            sort_if_needed(values)
            summarise(values, episode.e2e[c])
    measured.e2e_ms[:] = episode.e2e
    for values in (tally.arrived, tally.ended, tally.failed, tally.slow, tally.listed):
        values[:] = 0
    tally.samples[:] = 0
    tally.mean[:] = 0.0
    tally.p95[:] = 0.0
    tally.microservice_p95[:] = 0.0
    for i in range(len(slots)):
        slots[i].used = 0.0
        slots[i].arrivals = 0
        if slots[i].life == GONE:
            slots[i].life = FREE
