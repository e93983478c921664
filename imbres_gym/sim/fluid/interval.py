"""Telemetry of one interval of the fluid engine."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.percentiles import summarise
from imbres_gym.sim.containers import FIELDS, container_fields
from imbres_gym.sim.fluid.compiled import allocating
from imbres_gym.sim.fluid.episode import FluidEpisode
from imbres_gym.sim.fluid.fleet import changed_connections, shares_between_hosts
from imbres_gym.sim.state import FREE, GONE
from imbres_gym.telemetry import SPAN, ClusterInfo, Telemetry, pair_share_shape


def measure(episode: FluidEpisode, info: ClusterInfo, up: NDArray[np.int64], down: NDArray[np.int64]) -> Telemetry:
    """Telemetry of the interval that ends now; starts the next one.

    Args:
        episode: its state is that at the end of the interval.
        info: sizes.
        up: (P,) upstream microservice of each pair.
        down: (P,) downstream microservice.
    """
    topology, end_s, shape = episode.topology, episode.now_s, episode.ready.shape
    seconds = end_s - episode.measured_s
    latencies = tuple([_merged(parts) for parts in episode.latencies])
    for c, values in enumerate(latencies):
        if values.size:
            summarise(values, episode.e2e[c])
    before, churn = episode.measured, 0
    if before is not topology or episode.pair_share is None:
        size = pair_share_shape(len(up), shape[1])
        episode.pair_share = (
            shares_between_hosts(topology.fleet, topology.rows, up, down, topology.pool_weight, shape[1])
            if size[1] == shape[1]
            else np.zeros(size)
        )
    if before.rows is not topology.rows:
        churn = int(changed_connections(before.fleet, before.rows, topology.fleet, topology.rows, up, down))
    counted = dict(zip(COUNTED, _count(episode.bundle, info.cores, seconds, end_s), strict=True))
    telemetry = Telemetry(
        time_s=end_s,
        interval_s=seconds,
        **counted,
        ready=episode.ready.copy(),
        wanted=episode.wanted.copy(),
        e2e_ms=episode.e2e.copy(),
        latencies_ms=latencies,
        proportions=episode.proportions.copy(),
        connections=topology.connections.copy(),
        connection_churn=churn,
        pair_share=episode.pair_share.copy(),
        spans=np.zeros(0, SPAN),
    )
    episode.measured_s = end_s
    episode.measured = topology
    episode.latencies = [[] for _ in info.classes]
    return telemetry


def _merged(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Latencies of all steps, sorted; those of a step are."""
    return parts[0] if len(parts) == 1 else np.sort(np.concatenate([np.zeros(0), *parts]))


COUNTED = (
    *FIELDS,
    "own_latency_ms",
    "own_p95_ms",
    "age_s",
    "samples",
    "microservice_p95_ms",
    "interference",
    "requests",
    "failed",
    "slow",
    "workload_rps",
)


@allocating
def _count(episode, quotas, seconds, end_s):
    """The fields `COUNTED`, of a bundle; counting starts anew."""
    slots, tally, latency, model = episode.slots, episode.tally, episode.latency, episode.model
    microservice_p95 = episode.microservice_p95
    n_microservices, n_hosts = tally.samples.shape
    for m in range(n_microservices):
        spans = 0
        for h in range(n_hosts):
            count = tally.samples[m, h]
            spans += count
            if count > 0:
                latency[0, m, h] = tally.mean[m, h] / count
                latency[1, m, h] = tally.p95[m, h] / count
                latency[2, m, h] = end_s
        if spans > 0:
            microservice_p95[m] = tally.microservice_p95[m] / spans
    containers = container_fields(slots, quotas, model.idle_cores, 1.0, n_microservices, n_hosts, seconds, end_s)
    measured = (
        latency[0].copy(),
        latency[1].copy(),
        end_s - latency[2],
        tally.samples.copy(),
        microservice_p95.copy(),
        np.minimum(episode.utilisation, 1.0),
        tally.ended.copy(),
        tally.failed.copy(),
        tally.slow.copy(),
        tally.arrived / seconds,
    )
    for values in (tally.arrived, tally.ended, tally.failed, tally.slow):
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
    return containers + measured
