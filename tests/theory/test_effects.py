"""Interference and connections: what each effect adds to latency and to CPU use, one at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imbres_gym.application import Sensitivity
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.effects import Effects
from imbres_gym.sim.interference import Level
from imbres_gym.telemetry import Telemetry
from theory.builders import application, call, intervals, microservice, neutral, scenario, single
from theory.estimates import assert_agrees, assert_distribution, batch_means

BATCHES = 40
HOST = Hosts(count=1, cores=1000.0, memory_mb=1e6)
RPS, CPU_MS = 200.0, 2.0
OWN_USE = RPS * CPU_MS / 1000.0 / HOST.cores
"""Share of the host's cores that the microservice uses itself."""


def alone(effects: Effects, level: Level, sensitivity: Sensitivity | None = None, **changes: Any) -> Scenario:
    """One container with more cores than it can use, so that bursts do not meet, on a host with interference."""
    service = microservice(CPU_MS, 64.0, sensitivity=sensitivity or Sensitivity())
    return scenario(application({"a": service}, call("a"), **changes), RPS, levels=[level], hosts=HOST, effects=effects)


def latencies(measured: list[Telemetry]) -> list[NDArray[np.float64]]:
    """E2E latencies [ms] of each interval."""
    return [t.latencies_ms[0] for t in measured]


def test_wake_up_waits_with_the_chance_of_a_busy_cpu() -> None:
    """The wait is exponential with mean `delay_ms`, happens with chance s u ** exponent, and uses no CPU."""
    effects = neutral(delay_ms=4.0, delay_exponent=2.0, demand_shape=1e8)
    measured = intervals(alone(effects, Level(cpu=0.5), Sensitivity(cpu=1.2)), 5.0, BATCHES, seed=81, warmup_s=5.0)
    chance = 1.2 * (0.5 + OWN_USE) ** 2
    waits = np.concatenate(latencies(measured)) - CPU_MS
    waited = waits[waits > 0.01]
    # 0.25 % of the waits are shorter than the 0.01 ms that tell them from none.
    share = batch_means([np.mean(x - CPU_MS > 0.01) for x in latencies(measured)])
    assert_agrees(share, chance * math.exp(-0.01 / 4.0), sharpness=0.02)
    assert_distribution((waited - 0.01) / 4.0, "expon")
    use = batch_means([float(t.container_cpu[0]) * 64.0 for t in measured])
    assert_agrees(use, RPS * CPU_MS / 1000.0)
    # The span starts when the thread runs: the wake-up is not the microservice's own latency.
    own = batch_means([t.own_latency_ms[0, 0] for t in measured])
    assert own.value == pytest.approx(CPU_MS, rel=1e-3)


def test_preemption_is_own_latency() -> None:
    """A burst of demand d is preempted with chance 1 - exp(-c rate d), for an exponential time inside the span."""
    level = Level(cpu=0.6)
    both = intervals(
        alone(neutral(delay_ms=4.0, delay_exponent=2.0, preemption_per_ms=0.7, demand_shape=1e8), level),
        5.0,
        BATCHES,
        seed=82,
        warmup_s=5.0,
    )
    chance = (0.6 + OWN_USE) ** 2
    preempted = 1.0 - math.exp(-chance * 0.7 * CPU_MS)
    assert_agrees(batch_means([t.own_latency_ms[0, 0] for t in both]), CPU_MS + 4.0 * preempted)
    assert_agrees(batch_means([x.mean() for x in latencies(both)]), CPU_MS + 4.0 * (preempted + chance))


def test_wake_up_belongs_to_the_call_with_client_spans() -> None:
    """A span with one stage wakes up twice; the second time is the end of the client span, or the caller's own."""

    def own(client_spans: bool) -> float:
        app = application(
            {"a": microservice(2.0, 64.0), "b": microservice(2.0, 64.0)},
            call("a", [call("b")]),
            client_spans=client_spans,
        )
        effects = neutral(delay_ms=4.0, delay_exponent=1.0)
        setting = scenario(app, RPS, levels=[Level(cpu=0.5)], hosts=HOST, effects=effects)
        measured = intervals(setting, 5.0, BATCHES, seed=83, warmup_s=5.0)
        return batch_means([t.own_latency_ms[0, 0] for t in measured]).value

    wait = 4.0 * (0.5 + 2.0 * OWN_USE)
    assert own(True) == pytest.approx(2.0, rel=0.02)
    # Without client spans both the wait before the callee's span and the caller's own are the caller's.
    assert own(False) == pytest.approx(2.0 + 2.0 * wait, rel=0.02)


@pytest.mark.parametrize(
    ("level", "stretch"),
    [
        (Level(cpu=0.4), 1.0 + 2.0 * 0.5 * (0.4 + OWN_USE)),
        (Level(cpu=0.0, memory_bandwidth=0.5), 1.0 + 2.0 * 0.5 * OWN_USE + 3.0 * 0.3 * 0.5),
        (Level(cpu=0.4, llc=0.7), 1.0 + 2.0 * 0.5 * (0.4 + OWN_USE) + 0.5 * 0.2 * 0.7),
    ],
)
def test_stretch_costs_time_and_quota(level: Level, stretch: float) -> None:
    """Demands grow by the sensitivities times the utilisations, and so does the CPU use."""
    effects = neutral(stretch_cpu=0.5, stretch_memory_bandwidth=0.3, stretch_llc=0.2)
    sensitivity = Sensitivity(cpu=2.0, memory_bandwidth=3.0, llc=0.5)
    measured = intervals(alone(effects, level, sensitivity), 10.0, BATCHES, seed=84, warmup_s=5.0)
    assert_agrees(batch_means([x.mean() for x in latencies(measured)]), CPU_MS * stretch)
    use = batch_means([float(t.container_cpu[0]) * 64.0 for t in measured])
    assert_agrees(use, RPS * CPU_MS / 1000.0 * stretch)


@pytest.mark.parametrize(("network", "factor"), [(0.0, 1.0), (0.6, 1.0 + 2.0 * 1.5), (1.0, 1.0 + 2.0 * 9.0)])
def test_messages_slow_down_near_saturation(network: float, factor: float) -> None:
    """There and back take `hop_ms (1 + s (1 / (1 - u) - 1))`, u cut off at `network_limit`, each way exponential."""
    effects = neutral(network_limit=0.9, demand_shape=1e8)
    setting = alone(effects, Level(cpu=0.0, network=network), Sensitivity(network=2.0), hop_ms=3.0)
    measured = intervals(setting, 5.0, BATCHES, seed=85, warmup_s=5.0)
    assert_agrees(batch_means([x.mean() for x in latencies(measured)]), CPU_MS + 3.0 * factor)
    ways = (np.concatenate(latencies(measured))[::7] - CPU_MS) / (1.5 * factor)
    assert_distribution(ways, lambda x: 1.0 - np.exp(-x) * (1.0 + x))  # Erlang-2


def test_message_between_hosts_feels_the_busier_one() -> None:
    """A call between two hosts is as slow as the busier network of the two."""
    app = application({"a": microservice(0.01, 8.0), "b": microservice(0.01, 8.0)}, call("a", [call("b")]), hop_ms=1.0)
    levels = [Level(cpu=0.0, network=0.5), Level(cpu=0.0)]
    hosts = Hosts(count=2, cores=9.0, memory_mb=1e6)  # one container fits on each host
    measured = intervals(scenario(app, 500.0, 1, levels, hosts), 5.0, BATCHES, seed=86, warmup_s=5.0)
    on_busy_host = int(measured[0].container_host[0]) == 0
    entry = 2.0 if on_busy_host else 1.0
    assert sorted(measured[0].container_host.tolist()) == [0, 1]
    assert_agrees(batch_means([x.mean() for x in latencies(measured)]), 0.02 + entry + 2.0)


def test_overloaded_host_slows_all() -> None:
    """Interference of 9 cores and 2 cores of bursts on a host of 10: everything takes 1.1 times as long."""
    app = application({"a": microservice(1.0, 10.0, parallelism=64)}, call("a"))
    hosts = Hosts(count=1, cores=10.0, memory_mb=1e6)
    measured = intervals(scenario(app, 2000.0, 1, [Level(cpu=0.9)], hosts), 5.0, BATCHES, seed=87)
    assert_agrees(batch_means([x.mean() for x in latencies(measured)]), 1.1)
    assert measured[-1].interference[0, 0] == 1.0
    assert_agrees(batch_means([float(t.container_cpu[0]) * 10.0 for t in measured]), 2.0)


def test_connections_cost_cpu() -> None:
    """`1 + cost (n / 500) ** exponent`, n the mean of incoming and outgoing connections of the container."""
    effects = neutral(connection_cost=2.0, connection_exponent=0.5)
    app = application({"a": microservice(2.0, 64.0), "b": microservice(2.0, 64.0)}, call("a", [call("b")]))
    replicas = {"a": 4, "b": 10}
    measured = intervals(scenario(app, RPS, replicas, effects=effects), 10.0, BATCHES, seed=88, warmup_s=5.0)
    for m, n in ((0, 10.0 / 2.0), (1, 4.0 / 2.0)):
        factor = 1.0 + 2.0 * math.sqrt(n / 500.0)
        assert_agrees(batch_means([t.own_latency_ms[m, 0] for t in measured]), 2.0 * factor)
    np.testing.assert_array_equal(measured[0].connections, [40])


def test_slack_of_idle_cpus_is_out_of_reach() -> None:
    """One thread that is always busy uses `quota - slack (cpus - 1)` of each period, at least half of it."""
    for slack, reached in ((1.0, 50.0 - 3.0), (20.0, 25.0)):
        setting = single(10.0, 100.0, neutral(slack_ms=slack, cpus=4.0), cores=0.5, workers=1, accept_queue=50)
        use = [float(t.container_cpu[0]) for t in intervals(setting, 5.0, 20, seed=89)]
        assert np.mean(use) == pytest.approx(reached / 50.0, rel=0.002)


def test_wake_ups_lose_quota() -> None:
    """A container at its limit serves quota / (demand + loss) spans, and its CPU use leaves the loss out."""
    effects = neutral(wake_loss_ms=2.0)
    measured = intervals(single(10.0, 100.0, effects, cores=0.5, workers=1, accept_queue=50), 10.0, BATCHES, seed=90)
    assert_agrees(batch_means([float(t.samples[0, 0]) / 10.0 for t in measured]), 500.0 / 12.0)
    assert_agrees(batch_means([float(t.container_cpu[0]) for t in measured]), 10.0 / 12.0)


def test_background_work_spends_quota_and_no_one_waits_for_it() -> None:
    """With a share of 0.25 inside spans latency shrinks to a quarter, CPU use does not."""
    app = application({"a": microservice(CPU_MS, 64.0)}, call("a"), span_share=0.25)
    measured = intervals(scenario(app, RPS, hosts=HOST), 10.0, BATCHES, seed=91, warmup_s=5.0)
    assert_agrees(batch_means([x.mean() for x in latencies(measured)]), 0.25 * CPU_MS)
    assert_agrees(batch_means([float(t.container_cpu[0]) * 64.0 for t in measured]), RPS * CPU_MS / 1000.0)
