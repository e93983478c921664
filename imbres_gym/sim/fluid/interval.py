"""Telemetry of one interval of the fluid engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.containers import container_telemetry
from imbres_gym.sim.fluid.episode import FluidEpisode
from imbres_gym.sim.fluid.fleet import changed_connections, shares_between_hosts
from imbres_gym.sim.fluid.step import new_tally
from imbres_gym.sim.state import FREE, GONE
from imbres_gym.telemetry import SPAN, ClusterInfo, Telemetry


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
    count = tally.samples
    fresh = count > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        measured = np.stack([tally.mean / count, tally.p95 / count, np.full(shape, end_s)])
        of_microservice = tally.microservice_p95 / count.sum(axis=1)
    episode.latency = np.where(fresh, measured, episode.latency)
    episode.microservice_p95 = np.where(fresh.any(axis=1), of_microservice, episode.microservice_p95)

    latencies = tuple(_merged(parts) for parts in episode.latencies)
    e2e = episode.e2e.copy()
    for c, values in enumerate(latencies):
        if values.size:
            e2e[c] = [values.mean(), *(_quantile(values, q) for q in (0.5, 0.95, 0.99))]
    episode.e2e = e2e

    before, churn = episode.measured, 0
    if before is not topology or episode.pair_share is None:
        episode.pair_share = shares_between_hosts(
            topology.fleet, topology.rows, up, down, topology.pool_weight, shape[1]
        )
    if before.rows is not topology.rows:
        churn = int(changed_connections(before.fleet, before.rows, topology.fleet, topology.rows, up, down))
    telemetry = Telemetry(
        time_s=end_s,
        interval_s=seconds,
        **container_telemetry(slots, info, idle_cores, 1.0, (shape[0], shape[1]), seconds, end_s),
        own_latency_ms=episode.latency[0].copy(),
        own_p95_ms=episode.latency[1].copy(),
        samples=count,
        age_s=end_s - episode.latency[2],
        microservice_p95_ms=episode.microservice_p95.copy(),
        ready=episode.ready.copy(),
        wanted=episode.wanted.copy(),
        interference=np.minimum(episode.utilisation, 1.0),
        e2e_ms=e2e.copy(),
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


def _quantile(values: NDArray[np.float64], q: float) -> float:
    """As `np.quantile`, of sorted values."""
    place = q * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return float(values[low] + (values[high] - values[low]) * (place - low))
