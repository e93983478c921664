"""Telemetry of one interval of the fluid engine."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.percentiles import summarise
from imbres_gym.sim.containers import container_telemetry
from imbres_gym.sim.fluid.compiled import kernel
from imbres_gym.sim.fluid.episode import FluidEpisode
from imbres_gym.sim.fluid.fleet import changed_connections, shares_between_hosts
from imbres_gym.sim.fluid.step import new_tally
from imbres_gym.sim.state import FREE, GONE
from imbres_gym.telemetry import SPAN, ClusterInfo, Telemetry, pair_share_shape


def measure(
    episode: FluidEpisode,
    info: ClusterInfo,
    idle_cores: NDArray[np.float64],
    up: NDArray[np.int64],
    down: NDArray[np.int64],
) -> Telemetry:
    """Telemetry of the interval that ends now; starts the next one.

    Args:
        episode: its state is that at the end of the interval.
        info: sizes.
        idle_cores: (M,) CPU that a container uses all the time.
        up: (P,) upstream microservice of each pair.
        down: (P,) downstream microservice.
    """
    slots, tally, topology = episode.slots, episode.tally, episode.topology
    end_s = episode.now_s
    seconds = end_s - episode.measured_s
    shape = episode.ready.shape
    remember(tally, end_s, episode.latency, episode.microservice_p95)
    latencies = tuple(_merged(parts) for parts in episode.latencies)
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
    telemetry = Telemetry(
        time_s=end_s,
        interval_s=seconds,
        **container_telemetry(slots, info, idle_cores, 1.0, (shape[0], shape[1]), seconds, end_s),
        own_latency_ms=episode.latency[0].copy(),
        own_p95_ms=episode.latency[1].copy(),
        samples=tally.samples,
        age_s=end_s - episode.latency[2],
        microservice_p95_ms=episode.microservice_p95.copy(),
        ready=episode.ready.copy(),
        wanted=episode.wanted.copy(),
        interference=np.minimum(episode.utilisation, 1.0),
        e2e_ms=episode.e2e.copy(),
        requests=tally.ended,
        failed=tally.failed,
        slow=tally.slow,
        workload_rps=tally.arrived / seconds,
        latencies_ms=latencies,
        proportions=episode.proportions.copy(),
        connections=topology.connections.copy(),
        connection_churn=churn,
        pair_share=episode.pair_share.copy(),
        spans=np.zeros(0, SPAN),
    )
    episode.measured_s = end_s
    episode.measured = topology
    episode.tally = new_tally(shape[0], shape[1], len(info.classes))
    episode.latencies = [[] for _ in info.classes]
    slots["used"] = 0.0
    slots["arrivals"] = 0
    slots["life"][slots["life"] == GONE] = FREE
    return telemetry


def _merged(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Latencies of all steps, sorted; those of a step are."""
    return parts[0] if len(parts) == 1 else np.sort(np.concatenate([np.zeros(0), *parts]))


@kernel
def remember(tally, end_s, latency, microservice_p95):
    """Keep the latest own latencies: mean, p95 and time of measurement (3, M, H), and p95 of microservices (M,)."""
    for m in range(tally.samples.shape[0]):
        spans = 0
        for h in range(tally.samples.shape[1]):
            count = tally.samples[m, h]
            spans += count
            if count > 0:
                latency[0, m, h] = tally.mean[m, h] / count
                latency[1, m, h] = tally.p95[m, h] / count
                latency[2, m, h] = end_s
        if spans > 0:
            microservice_p95[m] = tally.microservice_p95[m] / spans
