"""Balancers of single calls against queueing theory, and what they do about a slow container."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

from imbres_gym.application import Sensitivity
from imbres_gym.plan import Balancer, Plan
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.interference import Level
from imbres_gym.telemetry import Telemetry
from theory.builders import application, call, microservice, neutral, scenario, totals
from theory.estimates import assert_agrees, batch_means

BATCHES = 20
REACTING = [b for b in Balancer if b is not Balancer.WEIGHTED]
LLC = 3


def farm(servers: int, load: float, cpu_ms: float = 10.0) -> Scenario:
    """Servers of one core with exponential demand, behind one gateway."""
    app = application({"a": microservice(cpu_ms, 1.0)}, call("a"))
    return scenario(app, servers * load * 1000.0 / cpu_ms, servers, max_replicas=servers)


def measured(setting: Scenario, balancer: Balancer, seconds: float, seed: int) -> list[Telemetry]:
    """Batches under a balancer, after a warm-up."""
    cluster = EventCluster(setting)
    cluster.reset(seed)
    cluster.apply(Plan(balancer=balancer))
    cluster.advance(5.0)
    return [cluster.advance(seconds) for _ in range(BATCHES)]


def test_least_request_is_the_supermarket_model() -> None:
    """With many servers the mean time is the sum of load ** (2 ** k - 2) over k = 1, 2, ... demands.

    Mitzenmacher (1996) and Vvedenskaya et al. (1996): the share of servers with at least k calls is
    load ** (2 ** k - 1). For exponential demand it is the same under processor sharing.
    """
    load = 0.8
    batches = measured(farm(400, load), Balancer.LEAST_REQUEST, 0.5, seed=41)
    expected_ms = 10.0 * sum(load ** (2**k - 2) for k in range(1, 8))
    assert_agrees(batch_means([t.latencies_ms[0].mean() for t in batches]), expected_ms)


def test_round_robin_over_two_servers_makes_erlang_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without load reports every server gets each second call: E2/M/1, whose mean time is D / (1 - s).

    s solves s = A(1 / D - s / D), with A the transform of the time between calls, here (2 r / (2 r + x)) ** 2.
    """
    monkeypatch.setattr("imbres_gym.sim.load_reports.BLACKOUT_S", np.inf)
    load, demand_ms = 0.7, 10.0
    batches = measured(farm(2, load), Balancer.WEIGHTED_ROUND_ROBIN, 100.0, seed=42)
    rate = load / demand_ms
    s = brentq(lambda s: s - (2.0 * rate / (2.0 * rate + (1.0 - s) / demand_ms)) ** 2, 0.0, 1.0 - 1e-9)
    assert_agrees(batch_means([t.latencies_ms[0].mean() for t in batches]), demand_ms / (1.0 - s))
    per_server = totals(batches, "container_rps")
    assert abs(int(per_server[0]) - int(per_server[1])) <= 1


def two_hosts(rps: float, stretch: float, **changes: Any) -> Scenario:
    """A (2 containers) calls B (8 containers) on two hosts; B's demand is longer on the second by the stretch."""
    insensitive = Sensitivity(memory_bandwidth=0.0)
    services = {
        "a": microservice(0.1, 64.0, sensitivity=insensitive),
        "b": microservice(10.0, 1.0, sensitivity=Sensitivity()),
    }
    app = application(services, call("a", [call("b")]), hop_ms=0.2)
    levels = [Level(cpu=0.0), Level(cpu=0.0, memory_bandwidth=1.0)]
    hosts = Hosts(count=2, cores=1e4, memory_mb=1e6)
    effects = neutral(stretch_memory_bandwidth=stretch - 1.0)
    return scenario(app, rps, {"a": 2, "b": 8}, levels, hosts, effects=effects, **changes)


def test_round_robin_equalises_utilisation() -> None:
    """Weights of calls/s over utilisation are one over the demand, so loads are 1.5 : 1 where demands are 1 : 1.5."""
    cluster = EventCluster(two_hosts(400.0, 1.5))
    cluster.reset(43)
    cluster.apply(Plan(balancer=Balancer.WEIGHTED_ROUND_ROBIN))
    blackout = cluster.advance(5.0)
    assert blackout.load_rps[1, 0] == pytest.approx(blackout.load_rps[1, 1], rel=0.01)
    cluster.advance(15.0)
    after = cluster.advance(60.0)
    assert after.load_rps[1, 0] / after.load_rps[1, 1] == pytest.approx(1.5, rel=0.03)
    assert after.cpu_utilisation[1, 0] == pytest.approx(after.cpu_utilisation[1, 1], rel=0.03)


@pytest.mark.parametrize("balancer", REACTING)
def test_load_moves_away_from_a_disturbed_host_and_comes_back(balancer: Balancer) -> None:
    """While the demand on one host is three times as long it gets less than 40 % of the calls, yet some."""
    cluster = EventCluster(two_hosts(300.0, 1.0).model_copy(update={"effects": neutral(stretch_llc=2.0)}))
    cluster.reset(44)
    cluster.apply(Plan(balancer=balancer))
    anomaly = np.zeros((2, 2, 4))
    anomaly[1, 1, LLC] = 1.0
    cluster.inject(anomaly)
    cluster.advance(30.0)
    disturbed = cluster.advance(20.0)
    assert 0.02 < disturbed.load_rps[1, 1] / disturbed.load_rps[1].sum() < 0.4
    cluster.inject(None)
    cluster.advance(30.0)
    calm = cluster.advance(20.0)
    assert calm.load_rps[1, 1] / calm.load_rps[1].sum() == pytest.approx(0.5, abs=0.05)
