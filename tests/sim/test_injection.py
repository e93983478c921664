"""Anomalies in single containers: what they add, to whom, and until when."""

from __future__ import annotations

import numpy as np
import pytest
from theory.builders import application, call, microservice, neutral, scenario

from imbres_gym.application import Sensitivity
from imbres_gym.scenario import Hosts
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.fluid.cluster import FluidCluster
from imbres_gym.sim.interference import Level
from imbres_gym.telemetry import Telemetry

CPU_MS = 2.0
BANDWIDTH, NETWORK = 1, 2
Simulated = type[EventCluster] | type[FluidCluster]
ENGINES = pytest.mark.parametrize("engine", [EventCluster, FluidCluster])


def cluster(
    engine: Simulated, seed: int, hop_ms: float = 0.0, replicas: int | dict[str, int] = 2, trace_sampling: float = 0.0
) -> EventCluster | FluidCluster:
    """A calls B on two hosts with 30 % memory bandwidth in use; bursts never meet, and their demand is constant."""
    services = {name: microservice(CPU_MS, 64.0, sensitivity=Sensitivity()) for name in "ab"}
    app = application(services, call("a", [call("b")]), hop_ms=hop_ms)
    effects = neutral(stretch_memory_bandwidth=0.5, demand_shape=1e8)
    hosts = Hosts(count=2, cores=1e5, memory_mb=1e6)
    levels = [Level(cpu=0.0, memory_bandwidth=0.3)]
    made = engine(scenario(app, 100.0, replicas, levels, hosts, effects=effects, trace_sampling=trace_sampling))
    made.reset(seed)
    return made


def own(telemetry: Telemetry) -> list[list[float]]:
    """(M, H) own latency over the demand: the stretch, but for a span that was in progress at a change."""
    return np.round(telemetry.own_latency_ms / CPU_MS, 3).tolist()


@ENGINES
def test_an_anomaly_stretches_its_containers_until_it_ends(engine: Simulated) -> None:
    """1 + 0.5 * (0.3 + 0.4) = 1.35 instead of 1.15 on the second host of A, and nowhere else; at most 1 in sum."""
    sick = cluster(engine, 51)
    anomaly = np.zeros((2, 2, 4))
    anomaly[0, 1, BANDWIDTH] = 0.4
    sick.inject(anomaly)
    anomaly[:] = 1.0  # the caller's array is the caller's
    sick.advance(0.5)
    for _ in range(2):
        measured = sick.advance(5.0)
        assert own(measured) == [[1.15, 1.35], [1.15, 1.15]]
        assert measured.interference[:, BANDWIDTH].tolist() == [0.3, 0.3]
    sick.inject(anomaly)
    sick.advance(0.5)
    assert own(sick.advance(5.0)) == [[1.5, 1.5], [1.5, 1.5]]
    saved = sick.snapshot()
    sick.inject(None)
    sick.advance(0.5)
    assert own(sick.advance(5.0)) == [[1.15, 1.15], [1.15, 1.15]]
    sick.restore(saved)
    assert own(sick.advance(5.0)) == [[1.5, 1.5], [1.5, 1.5]]
    sick.reset(51)
    assert own(sick.advance(5.0)) == [[1.15, 1.15], [1.15, 1.15]]


@ENGINES
def test_an_anomaly_of_the_network_delays_the_messages_of_its_containers(engine: Simulated) -> None:
    """Half a hop of 2 ms takes 1 / (1 - 0.5) = 2 times as long to and from A's containers."""
    sick = cluster(engine, 52, hop_ms=2.0)
    anomaly = np.zeros((2, 2, 4))
    anomaly[0, :, NETWORK] = 0.5
    before = sick.advance(60.0)
    sick.inject(anomaly)
    sick.advance(0.5)
    after = sick.advance(60.0)
    cpu_ms = 2 * CPU_MS * 1.15  # of A and of B
    for measured, hops_ms in ((before, 4.0), (after, 8.0)):
        latencies = measured.latencies_ms[0]
        error = latencies.std() / np.sqrt(latencies.size)
        assert abs(latencies.mean() - cpu_ms - hops_ms) < 4.0 * error < 0.3


@ENGINES
def test_an_anomaly_knows_its_host(engine: Simulated) -> None:
    """B has one container only, wherever it is: what happens on the other host leaves it alone."""
    sick = cluster(engine, 54, replicas={"a": 2, "b": 1})
    home = int(np.flatnonzero(sick.advance(5.0).ready[1])[0])
    anomaly = np.zeros((2, 2, 4))
    for place, stretch in ((home, 1.35), (1 - home, 1.15)):
        anomaly[1] = 0.0
        anomaly[1, place, BANDWIDTH] = 0.4
        sick.inject(anomaly)
        sick.advance(0.5)
        measured = own(sick.advance(5.0))
        assert measured[0] == [1.15, 1.15] and measured[1][home] == stretch


@ENGINES
def test_traces_show_a_slow_network(engine: Simulated) -> None:
    """Both messages between A and B take twice as long if either end is slow."""
    sick = cluster(engine, 55, hop_ms=2.0, trace_sampling=1.0)
    anomaly = np.zeros((2, 2, 4))
    anomaly[0, :, NETWORK] = 0.5
    lasted_ms = []
    for disturbed in (None, anomaly):
        sick.inject(disturbed)
        sick.advance(0.5)
        spans = sick.advance(60.0).spans
        roots = spans[spans["parent"] == -1]
        lasted_ms.append((roots["end_s"] - roots["start_s"]) * 1e3)
    error = np.std(lasted_ms[1]) / np.sqrt(len(lasted_ms[1]))
    assert abs(np.mean(lasted_ms[1]) - np.mean(lasted_ms[0]) - 2.0) < 6.0 * error < 0.3


@pytest.mark.parametrize("anomaly", [np.zeros((2, 4)), np.full((2, 2, 4), 1.1), np.full((2, 2, 4), np.nan)])
@ENGINES
def test_an_illegal_anomaly_is_refused(engine: Simulated, anomaly: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"an anomaly must be \(2, 2, 4\) and between 0 and 1"):
        cluster(engine, 53).inject(anomaly)
