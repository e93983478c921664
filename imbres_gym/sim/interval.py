"""Telemetry of one interval from the state of the engine."""

from __future__ import annotations

import numpy as np

from imbres_gym.sim import kernel
from imbres_gym.sim.containers import container_telemetry
from imbres_gym.sim.episode import Episode
from imbres_gym.sim.measure import own_latency
from imbres_gym.sim.program import Program
from imbres_gym.sim.state import FREE, GONE, NOW, OWN_SAMPLES, REQUEST_SAMPLES, TRACED
from imbres_gym.telemetry import ClusterInfo, Telemetry


def measure(episode: Episode, info: ClusterInfo, program: Program, end_s: float) -> Telemetry:
    """Telemetry of the interval that ends now; starts the next one."""
    state, slots = episode.state, episode.state.slots
    interval_s = end_s - episode.measured_s
    shape = episode.ready.shape
    kernel.settle(state, state.clock[NOW])
    n = int(state.counters[OWN_SAMPLES])
    samples, mean, p95, of_microservice = own_latency(state.own_samples, n, *shape)
    fresh = samples > 0
    episode.latency = np.where(fresh, np.stack([mean, p95, np.full(shape, end_s)]), episode.latency)
    episode.microservice_p95 = np.where(fresh.any(axis=1), of_microservice, episode.microservice_p95)

    ended = state.request_samples[: int(state.counters[REQUEST_SAMPLES])]
    good = ended[ended["failed"] == 0]
    latencies = tuple(good["latency"][good["class_"] == c].copy() for c in range(len(info.classes)))
    requests = np.bincount(ended["class_"], minlength=len(info.classes))
    bad = ended["failed"] == 1
    failed = np.bincount(ended["class_"][bad], minlength=len(info.classes))
    slow = np.bincount(ended["class_"][bad | (ended["latency"] > info.sla_ms)], minlength=len(info.classes))
    for c, values in enumerate(latencies):
        if values.size:
            episode.e2e[c] = [values.mean(), *np.percentile(values, [50.0, 95.0, 99.0])]

    opened = np.setxor1d(episode.routing.links, episode.links, assume_unique=True).size
    telemetry = Telemetry(
        time_s=end_s,
        interval_s=interval_s,
        **container_telemetry(slots, info, program.idle_cores, 1e-3, (shape[0], shape[1]), interval_s, end_s),
        own_latency_ms=episode.latency[0].copy(),
        own_p95_ms=episode.latency[1].copy(),
        samples=samples,
        age_s=end_s - episode.latency[2],
        microservice_p95_ms=episode.microservice_p95.copy(),
        ready=episode.ready.copy(),
        wanted=episode.wanted.copy(),
        interference=episode.utilisation.copy(),
        e2e_ms=episode.e2e.copy(),
        requests=requests,
        failed=failed,
        slow=slow,
        workload_rps=state.arrived / interval_s,
        latencies_ms=latencies,
        proportions=episode.proportions.copy(),
        connections=episode.routing.connections.copy(),
        connection_churn=int(opened),
        pair_share=episode.routing.pair_share.copy(),
        spans=state.traced[: int(state.counters[TRACED])].copy(),
    )
    episode.measured_s = end_s
    episode.links = episode.routing.links
    state.counters[[OWN_SAMPLES, REQUEST_SAMPLES, TRACED]] = 0
    state.arrived[:] = 0
    slots["used"] = 0.0
    slots["arrivals"] = 0
    slots["life"][slots["life"] == GONE] = FREE
    return telemetry
