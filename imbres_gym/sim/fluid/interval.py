"""Telemetry of one interval of the fluid engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.fluid.episode import FluidEpisode, new_interval
from imbres_gym.sim.fluid.fleet import changed_connections, shares_between_hosts
from imbres_gym.sim.routing import count_ready
from imbres_gym.sim.state import FREE, GONE, PENDING, READY
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
    slots, interval, topology = episode.slots, episode.interval, episode.topology
    end_s = episode.now_s
    seconds = end_s - episode.measured_s
    shape = episode.ready.shape
    count = interval.samples
    fresh = count > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        measured = np.stack([interval.mean / count, interval.p95 / count, np.full(shape, end_s)])
        of_microservice = interval.microservice_p95 / count.sum(axis=1)
    episode.latency = np.where(fresh, measured, episode.latency)
    episode.microservice_p95 = np.where(fresh.any(axis=1), of_microservice, episode.microservice_p95)

    latencies = tuple(_merged(parts) for parts in interval.latencies)
    e2e = episode.e2e.copy()
    for c, values in enumerate(latencies):
        if values.size:
            e2e[c] = [values.mean(), *(_quantile(values, q) for q in (0.5, 0.95, 0.99))]
    episode.e2e = e2e

    alive = slots["life"] != FREE
    flat = slots["microservice"][alive].astype(np.int64) * shape[1] + slots["host"][alive]
    size = shape[0] * shape[1]
    load = np.bincount(flat, slots["arrivals"][alive], size).reshape(shape) / seconds
    cores_used = slots["used"] / seconds + idle_cores[slots["microservice"]]
    cores = info.cores[slots["microservice"]]
    quota = np.bincount(flat, cores[alive], size).reshape(shape)
    used = np.bincount(flat, cores_used[alive], size).reshape(shape)

    shown = np.flatnonzero((slots["life"] == READY) | (slots["life"] == PENDING))
    shown = shown[np.argsort(slots["id"][shown])]
    before, churn = episode.measured, 0
    if before is not topology or episode.pair_share is None:
        episode.pair_share = shares_between_hosts(
            topology.fleet, topology.rows, up, down, topology.pool_weight, shape[1]
        )
        churn = int(changed_connections(before.fleet, before.rows, topology.fleet, topology.rows, up, down))
    telemetry = Telemetry(
        time_s=end_s,
        interval_s=seconds,
        container_id=slots["id"][shown],
        container_microservice=slots["microservice"][shown].astype(np.int64),
        container_host=slots["host"][shown].astype(np.int64),
        container_ready=slots["life"][shown] == READY,
        container_rps=slots["arrivals"][shown] / seconds,
        container_cpu=cores_used[shown] / cores[shown],
        container_age_s=end_s - slots["created"][shown] * 1e-3,
        own_latency_ms=episode.latency[0].copy(),
        own_p95_ms=episode.latency[1].copy(),
        load_rps=load,
        samples=count,
        age_s=end_s - episode.latency[2],
        cpu_utilisation=np.divide(used, quota, out=np.zeros(shape), where=quota > 0.0),
        microservice_p95_ms=episode.microservice_p95.copy(),
        ready=episode.ready.copy(),
        pending=count_ready(slots, shape, PENDING),
        wanted=episode.wanted.copy(),
        interference=episode.utilisation.copy(),
        e2e_ms=e2e.copy(),
        requests=interval.ended,
        failed=interval.failed,
        slow=interval.slow,
        workload_rps=interval.arrived / seconds,
        latencies_ms=latencies,
        proportions=episode.proportions.copy(),
        connections=topology.connections.copy(),
        connection_churn=churn,
        pair_share=episode.pair_share.copy(),
        spans=np.zeros(0, SPAN),
    )
    episode.measured_s = end_s
    episode.measured = topology
    episode.interval = new_interval(shape[0], shape[1], len(info.classes))
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
