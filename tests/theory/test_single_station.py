"""One container as a queue: M/M/1, M/G/1, M/M/c, M/M/c/K and processor sharing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from imbres_gym.telemetry import Telemetry
from theory.builders import intervals, neutral, single
from theory.estimates import assert_agrees, batch_means

SERVICE_MS = 10.0
BATCHES = 40


def mean_sojourn(telemetries: list[Telemetry]) -> list[float]:
    """Mean E2E latency [ms] of each interval."""
    return [float(t.latencies_ms[0].mean()) for t in telemetries]


def erlang_c(servers: int, load: float) -> float:
    """Probability that an arrival has to wait in an M/M/c queue with `load` busy servers on average."""
    below = sum(load**k / math.factorial(k) for k in range(servers))
    full = load**servers / math.factorial(servers) * servers / (servers - load)
    return full / (below + full)


def test_one_worker_is_mm1() -> None:
    """First come, first served: the sojourn time is exponential with rate mu - lambda."""
    measured = intervals(single(SERVICE_MS, rps=60.0, workers=1), 300.0, BATCHES, seed=1)
    mean = 1.0 / (1.0 / SERVICE_MS - 0.06)
    assert_agrees(batch_means(mean_sojourn(measured)), mean)
    for q in (0.1, 0.5, 0.95, 0.99):
        quantiles = [np.quantile(t.latencies_ms[0], q) for t in measured]
        assert_agrees(batch_means(quantiles), -mean * math.log(1.0 - q), sharpness=0.02)


@pytest.mark.parametrize("shape", [0.5, 4.0, 1e4])
def test_one_worker_is_mg1(shape: float) -> None:
    """Pollaczek and Khinchine: the wait is lambda E[S^2] / (2 (1 - rho)), with E[S^2] of the Gamma distribution."""
    measured = intervals(single(SERVICE_MS, 60.0, neutral(demand_shape=shape), workers=1), 300.0, BATCHES, seed=2)
    wait = 0.06 * SERVICE_MS**2 * (1.0 + 1.0 / shape) / (2.0 * (1.0 - 0.6))
    assert_agrees(batch_means(mean_sojourn(measured)), SERVICE_MS + wait, sharpness=0.015)


@pytest.mark.parametrize("shape", [0.5, 1.0, 4.0])
def test_processor_sharing_is_insensitive(shape: float) -> None:
    """M/G/1-PS: the mean sojourn time E[S] / (1 - rho) depends on the mean of the demand only."""
    measured = intervals(single(SERVICE_MS, 60.0, neutral(demand_shape=shape)), 300.0, BATCHES, seed=3)
    assert_agrees(batch_means(mean_sojourn(measured)), SERVICE_MS / (1.0 - 0.6))


@pytest.mark.parametrize("workers", [3, 1000])
def test_several_cores_are_mmc(workers: int) -> None:
    """Erlang C, for a worker per core (first come, first served) and for sharing alike: demands are exponential."""
    servers, load = 3, 2.1
    measured = intervals(
        single(SERVICE_MS, load / SERVICE_MS * 1e3, cores=3.0, workers=workers), 100.0, BATCHES, seed=4
    )
    wait = erlang_c(servers, load) * SERVICE_MS / (servers - load)
    assert_agrees(batch_means(mean_sojourn(measured)), SERVICE_MS + wait)


@pytest.mark.parametrize("load", [1.5, 3.0])
def test_full_queue_rejects_as_mmck(load: float) -> None:
    """M/M/c/K with c = 2 workers and 4 places in the accept queue: an arrival is rejected when all 6 are taken."""
    servers, places = 2, 6
    setting = single(SERVICE_MS, load / SERVICE_MS * 1e3, cores=2.0, workers=servers, accept_queue=places - servers)
    measured = intervals(setting, 100.0, BATCHES, seed=5)
    weights = [load**k / (math.factorial(min(k, servers)) * servers ** max(0, k - servers)) for k in range(places + 1)]
    lost = weights[-1] / sum(weights)
    assert_agrees(batch_means([t.failed[0] / t.requests[0] for t in measured]), lost, sharpness=0.03)
    in_system = sum(k * w for k, w in enumerate(weights)) / sum(weights)
    accepted_per_ms = load / SERVICE_MS * (1.0 - lost)
    assert_agrees(batch_means(mean_sojourn(measured)), in_system / accepted_per_ms)


def test_utilisation_is_the_offered_load() -> None:
    """CPU use is lambda E[S], with the CPU that the container uses when idle."""
    measured = intervals(single(SERVICE_MS, 60.0, cores=2.0, idle_cores=0.3), 100.0, BATCHES, seed=6)
    use = [float(t.cpu_utilisation[0, 0]) for t in measured]
    assert_agrees(batch_means(use), (0.6 + 0.3) / 2.0)
    assert [float(t.container_cpu[0]) for t in measured] == pytest.approx(use)
