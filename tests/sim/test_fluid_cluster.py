"""What the fluid engine promises as a cluster: determinism, life of containers, overload, what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from theory.builders import application, call, microservice, neutral, scenario

from imbres_gym.config import ConfigError
from imbres_gym.plan import Balancer, ConnectionPlan, Links, Plan
from imbres_gym.scenario import Hosts, Scenario, load_scenario
from imbres_gym.sim.effects import Effects
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.fluid.cluster import FluidCluster
from imbres_gym.sim.fluid.draw import LISTED
from imbres_gym.sim.interference import Level, MovingInterference
from imbres_gym.telemetry import Telemetry

ROOT = Path(__file__).resolve().parents[2]
TWO_HOSTS = Hosts(count=2, cores=100.0, memory_mb=1e6)


def busy() -> Scenario:
    """Two microservices near saturation under moving interference."""
    app = application(
        {"a": microservice(4.0, 0.5, parallelism=16), "b": microservice(6.0, 0.5, parallelism=16)},
        call("a", [call("b", probability=0.7), call("b")]),
        hop_ms=0.5,
    )
    setting = scenario(app, 60.0, {"a": 2, "b": 3}, hosts=Hosts(count=2, cores=8.0, memory_mb=1e4), effects=Effects())
    moving = MovingInterference(levels=[Level(cpu=0.3), Level(cpu=0.6, memory_bandwidth=0.5)], jumps_per_minute=0.5)
    return setting.model_copy(update={"interference": moving})


def drive(cluster: FluidCluster, steps: int) -> list[Telemetry]:
    """Some intervals in which every part of a plan changes."""
    seen = []
    for step in range(steps):
        links = Links(np.array([0, 0, 1]), np.array([2, 3, 4]), np.array([1.0, 1.0 + step, 1.0]))
        cluster.apply(Plan(connections=ConnectionPlan({0: links} if step % 2 else {})))
        cluster.apply(Plan(replicas=np.array([2 + step % 3, 3 + step % 2])))
        seen.append(cluster.advance(5.0))
    return seen


def episode(seed: int) -> list[Telemetry]:
    """All telemetry of an episode."""
    cluster = FluidCluster(busy())
    return [cluster.reset(seed), *drive(cluster, 6)]


def fingerprint(telemetries: list[Telemetry]) -> str:
    """Numbers that another process must find, to the last bit."""
    return ",".join(
        f"{t.own_latency_ms.sum().hex()}:{t.container_cpu.sum().hex()}:{t.latencies_ms[0].sum().hex()}"
        for t in telemetries
    )


def test_same_seed_same_bits() -> None:
    """On one cluster and on another, but not with another seed."""
    cluster = FluidCluster(busy())
    first = [cluster.reset(7), *drive(cluster, 6)]
    again = [cluster.reset(7), *drive(cluster, 6)]
    assert first == again == episode(7)
    assert all(one != other for one, other in zip(first, episode(8), strict=True))


def test_same_bits_in_another_process() -> None:
    """Nothing depends on the process."""
    code = "import sys; sys.path += ['tests', 'tests/sim']; import test_fluid_cluster as t; "
    code += "print(t.fingerprint(t.episode(7)))"
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert output.strip() == fingerprint(episode(7))


def test_snapshots_and_clones_have_the_same_future() -> None:
    """Bit for bit, as often as wanted; a clone lives on its own."""
    cluster = FluidCluster(busy())
    cluster.reset(9)
    drive(cluster, 2)
    saved, twin = cluster.snapshot(), cluster.clone()
    future = drive(cluster, 4)
    assert drive(twin, 4) == future
    cluster.restore(saved)
    assert drive(cluster, 4) == future
    other = FluidCluster(busy())
    other.restore(saved)
    assert drive(other, 4) == future
    with pytest.raises(TypeError, match="not a snapshot of a fluid cluster"):
        cluster.restore("something else")


def test_both_engines_place_and_disturb_alike() -> None:
    """The same seed means the same hosts, interference and life of containers."""
    event, fluid = EventCluster(busy()), FluidCluster(busy())
    plans = [Plan(replicas=np.array(counts)) for counts in ([3, 3], [5, 6], [2, 4])]
    pairs = [(event.reset(11), fluid.reset(11))]
    for plan in plans:
        for cluster in (event, fluid):
            cluster.apply(plan)
        pairs.append((event.advance(5.0), fluid.advance(5.0)))
    for one, other in pairs:
        for name in ("container_id", "container_host", "container_ready", "ready", "pending", "proportions"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        np.testing.assert_array_equal(one.connections, other.connections)
        assert one.connection_churn == other.connection_churn
        np.testing.assert_allclose(one.pair_share, other.pair_share)
        np.testing.assert_array_equal(one.interference[:, 1:], other.interference[:, 1:])


@pytest.mark.parametrize("startup_s", [3.0, 4.5])
def test_new_containers_take_requests_after_start_up(startup_s: float) -> None:
    """As in the event engine: pending for `startup_s`, ready at the next second, not one request before."""
    app = application({"a": microservice(1.0, 8.0)}, call("a"))
    cluster = FluidCluster(scenario(app, 200.0, 2, hosts=TWO_HOSTS, startup_s=startup_s))
    cluster.reset(61)
    cluster.apply(Plan(replicas=np.array([6])))
    for t in (cluster.advance(1.0) for _ in range(8)):
        new = t.container_id >= 2
        age = t.container_age_s[new]
        assert not np.any(t.container_ready[new][age < startup_s])
        assert np.all(t.container_ready[new][age > startup_s + 1.0])
        assert not np.any(t.container_rps[new][age < startup_s])
        assert np.all(t.container_rps[new][age > startup_s + 2.0] > 0.0)


def test_overload_piles_up_and_is_done_later() -> None:
    """120 % of the capacity for 20 s leave 4 s of work: latency rises by 1 s every 5 s, and falls when load falls."""
    app = application({"a": microservice(10.0, 1.0)}, call("a"))
    steps = [{"at_s": 0.0, "rps": 120.0}, {"at_s": 20.0, "rps": 20.0}]
    setting = load_scenario(scenario(app, 1.0), workload={"kind": "step", "steps": steps})
    cluster = FluidCluster(setting)
    seen = [cluster.reset(3), *(cluster.advance(5.0) for _ in range(9))]
    mean_ms = np.array([t.e2e_ms[0, 0] for t in seen])
    # The surfaces hold up to 97 % of the quota; what is beyond piles up: 23 % of 5 s in each interval. The chance of
    # what comes in an interval adds some 10 % of it.
    assert mean_ms[3] - mean_ms[0] == pytest.approx(3 * 1150.0, rel=0.15)
    # With 20 % it falls by 0.77 s every second: from 4.6 s to 0.75 s, 2.7 s in the mean; then all is done.
    assert mean_ms[4] == pytest.approx(2700.0, rel=0.25) and np.all(mean_ms[6:] < 100.0)
    assert all(t.container_cpu[0] > 0.9 for t in seen[:4]) and seen[-1].container_cpu[0] < 0.4
    arrived = sum(t.workload_rps[0] * 5.0 for t in seen)
    ended = sum(int(t.requests[0]) for t in seen)
    assert ended == pytest.approx(arrived, rel=0.05)


def test_of_many_requests_an_even_sample_is_listed() -> None:
    app = application({"a": microservice(4.0, 4.0, parallelism=16)}, call("a"))
    setting = scenario(app, 700.0, {"a": 1}, hosts=TWO_HOSTS, effects=Effects()).model_copy(update={"sla_ms": 8.0})
    measured = FluidCluster(setting).reset(1)
    (listed,) = measured.latencies_ms
    assert len(listed) == LISTED < measured.requests[0] and np.all(np.diff(listed) >= 0.0)
    # The share above the SLA is that of the distribution itself; the sample knows it to one of its places.
    above, of_sample = measured.slow[0] / measured.requests[0], np.mean(listed > 8.0)
    assert 0.02 < above < 0.9 and abs(above - of_sample) <= 1.0 / LISTED


def test_a_full_queue_rejects() -> None:
    """Two workers and a queue of three: of twice the capacity about half fails, and at once."""
    app = application({"a": microservice(10.0, 1.0, workers=2, accept_queue=3)}, call("a"))
    cluster = FluidCluster(scenario(app, 200.0))
    cluster.reset(4)
    t = cluster.advance(20.0)
    assert t.failed[0] / t.requests[0] == pytest.approx(0.5, abs=0.05)
    assert t.slow[0] >= t.failed[0]
    assert t.e2e_ms[0, 0] < 2 * 5 * 10.0  # waiting for at most five, and being served with at most five


def test_overload_upstream_holds_back_the_calls_downstream() -> None:
    """a takes 100 calls/s of 200: b gets 100, not 200, and is not overloaded."""
    app = application({"a": microservice(10.0, 1.0), "b": microservice(5.0, 1.0)}, call("a", [call("b")]))
    cluster = FluidCluster(scenario(app, 200.0))
    cluster.reset(5)
    t = cluster.advance(5.0)
    assert t.load_rps[0, 0] == pytest.approx(200.0, rel=0.1)
    assert t.load_rps[1, 0] == pytest.approx(100.0, rel=0.1)
    assert t.cpu_utilisation[1, 0] == pytest.approx(0.5, abs=0.05)


def test_nobody_uses_it() -> None:
    """Without requests everything is zero and finite."""
    app = application({"a": microservice(1.0, 8.0), "b": microservice(1.0)}, call("a", [call("b")]))
    cluster = FluidCluster(scenario(app, 0.0, hosts=TWO_HOSTS))
    for t in (cluster.reset(67), cluster.advance(5.0)):
        for value in vars(t).values():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                assert np.all(np.isfinite(value))
        assert t.requests[0] == t.failed[0] == t.slow[0] == 0 and t.latencies_ms[0].size == 0
        assert not t.load_rps.any() and not t.own_latency_ms.any() and not t.samples.any() and not t.e2e_ms.any()


def test_a_light_load_takes_what_it_demands() -> None:
    """10 ms of demand, a hop of 2 ms and a store of 5 ms, hardly any load: mean 17 ms, own latency 10 ms."""
    from imbres_gym.application import Call, Store

    tree = call("a", [Call(call="db/get")])
    app = application(
        {"a": microservice(10.0, 4.0, demand_shape=1.0)}, tree, {"db": Store(operations={"get": 5.0})}, hop_ms=2.0
    )
    cluster = FluidCluster(scenario(app, 2.0, effects=neutral()))
    cluster.reset(1)
    t = cluster.advance(2000.0)
    assert t.e2e_ms[0, 0] == pytest.approx(17.0, rel=0.03)
    assert t.own_latency_ms[0, 0] == pytest.approx(10.0, rel=0.05)


def test_a_single_core_shares_its_time() -> None:
    """M/M/1 with processor sharing at 60 %: 10 ms of demand take 10 / (1 - 0.6) = 25 ms."""
    app = application({"a": microservice(10.0, 1.0)}, call("a"))
    cluster = FluidCluster(scenario(app, 60.0))
    cluster.reset(1)
    assert cluster.advance(1000.0).e2e_ms[0, 0] == pytest.approx(25.0, rel=0.03)


def test_balancers_of_single_calls_are_refused() -> None:
    """With a message that says what to do."""
    cluster = FluidCluster(busy())
    cluster.reset(1)
    with pytest.raises(ConfigError, match=r"least-request.*use engine: events"):
        cluster.apply(Plan(balancer=Balancer.LEAST_REQUEST))
    cluster.apply(Plan(balancer=Balancer.WEIGHTED))
