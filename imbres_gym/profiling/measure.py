"""One run of one point: a fixed deployment under steady load and interference."""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imbres_gym.cluster import make_cluster
from imbres_gym.observer import Observer
from imbres_gym.percentiles import class_tails
from imbres_gym.plan import Plan
from imbres_gym.policy import load_object
from imbres_gym.profiling.design import CONNECTIONS, MEASURE_S, Run
from imbres_gym.telemetry import Telemetry

ENOUGH = 100
"""Requests of a class below which its own share of answered ones says little: chance makes it a tenth, and those under
way at the start and the end count. Estimate."""


@dataclass(frozen=True)
class Measurement:
    """What one run showed (M microservices, C request classes).

    Attributes:
        cpu, memory_bandwidth: utilisation of the hosts by everything, mean over hosts [0-1].
        load_rps: (M,) calls/s per container.
        p95_ms, mean_ms: (M,) own latency over all containers [ms].
        utilisation: (M,) CPU use of the containers as a share of their quota [0-1].
        e2e_p95_ms: (C,) E2E latency, failed requests counted as 10 s [ms].
        answered: (C,) requests answered without failure, as a share of those that arrived [-]; of a class with fewer
            than `ENOUGH`, that of all classes together.
        containers: number of containers.
        cpu_s: processor time [s].
    """

    cpu: float
    memory_bandwidth: float
    load_rps: list[float]
    p95_ms: list[float]
    mean_ms: list[float]
    utilisation: list[float]
    e2e_p95_ms: list[float]
    answered: list[float]
    containers: int
    cpu_s: float

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


@dataclass(frozen=True)
class RunFailure:
    """A run that could not be finished.

    Attributes:
        message: one line.
        details: the traceback.
    """

    message: str
    details: str


def attempt(run: Run) -> Measurement | RunFailure:
    """Do one run; whatever goes wrong becomes a value."""
    try:
        return measure(run)
    except Exception as error:
        return RunFailure(f"{type(error).__name__}: {error}", traceback.format_exc())


def measure(run: Run) -> Measurement:
    """Do one run: settle, connect, measure."""
    started = time.process_time()
    cluster = make_cluster(run.scenario)
    try:
        info = cluster.info
        observation = Observer(info).observe(cluster.reset(run.seed))
        path, options = CONNECTIONS[run.connections]
        policy = load_object(path, "connections")(**options)
        policy.reset(info, run.seed)
        proportions = observation["proportions"].astype(np.float64)
        cluster.apply(Plan(connections=policy.connect(observation, proportions)))
        telemetry = cluster.advance(MEASURE_S)
    finally:
        cluster.close()
    return summarise(telemetry, time.process_time() - started)


def summarise(telemetry: Telemetry, cpu_s: float) -> Measurement:
    """Statistics per microservice and request class."""
    of = telemetry.container_microservice
    count = telemetry.ready.sum(axis=1)
    samples = telemetry.samples.sum(axis=1)
    total_ms = np.where(telemetry.samples > 0, telemetry.samples * telemetry.own_latency_ms, 0.0).sum(axis=1)
    arrived = telemetry.workload_rps * telemetry.interval_s
    good = telemetry.requests - telemetry.failed
    all_together = good.sum() / max(arrived.sum(), 1.0)
    return Measurement(
        cpu=float(telemetry.interference[:, 0].mean()),
        memory_bandwidth=float(telemetry.interference[:, 1].mean()),
        load_rps=(telemetry.load_rps.sum(axis=1) / count).tolist(),
        p95_ms=np.where(samples > 0, telemetry.microservice_p95_ms, 0.0).tolist(),
        mean_ms=(total_ms / np.maximum(samples, 1)).tolist(),
        utilisation=(np.bincount(of, telemetry.container_cpu, len(count)) / count).tolist(),
        e2e_p95_ms=class_tails(telemetry.latencies_ms, telemetry.requests, telemetry.failed, 95.0),
        answered=np.where(arrived >= ENOUGH, good / np.maximum(arrived, 1.0), all_together).tolist(),
        containers=int(count.sum()),
        cpu_s=cpu_s,
    )
