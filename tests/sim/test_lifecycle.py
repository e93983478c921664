"""Containers come and go: start-up, draining, removal order, and an application that nobody uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from theory.builders import application, call, microservice, neutral, scenario, totals

from imbres_gym.plan import Plan
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.opening import TICK_S
from imbres_gym.telemetry import Telemetry

TWO_HOSTS = Hosts(count=2, cores=100.0, memory_mb=1e6)


def setting(rps: float, cpu_ms: float = 1.0, replicas: int = 2, hop_ms: float = 0.0, **changes: Any) -> Scenario:
    """One microservice with containers on two hosts."""
    app = application({"a": microservice(cpu_ms, 8.0)}, call("a"), hop_ms=hop_ms)
    return scenario(app, rps, replicas, hosts=TWO_HOSTS, **changes)


@pytest.mark.parametrize("startup_s", [3.0, 4.5])
def test_new_containers_take_requests_after_start_up(startup_s: float) -> None:
    """Pending for `startup_s`, ready at the next tick at the latest, and not one request before."""
    cluster = EventCluster(setting(200.0, startup_s=startup_s))
    cluster.reset(61)
    cluster.apply(Plan(replicas=np.array([6])))
    seconds = [cluster.advance(1.0) for _ in range(8)]
    for t in seconds:
        age = t.container_age_s[t.container_id >= 2]
        assert age.size == 4
        ready, busy = t.container_ready[t.container_id >= 2], t.container_rps[t.container_id >= 2] > 0.0
        assert not np.any(ready[age < startup_s]) and np.all(ready[age > startup_s + TICK_S])
        assert not np.any(busy[age < startup_s]) and np.all(busy[age > startup_s + 2.0 * TICK_S])
        assert t.ready.sum() == 2 + ready.sum() and t.pending.sum() == 4 - ready.sum() and t.wanted[0] == 6
    assert seconds[-1].ready.tolist() == [[3, 3]]


@pytest.mark.parametrize("hop_ms", [0.0, 200.0])
def test_removed_containers_finish_what_they_have(hop_ms: float) -> None:
    """No request fails, none is lost, and calls that reach a removed container are still measured."""
    cluster = EventCluster(setting(40.0, cpu_ms=200.0, replicas=6, hop_ms=hop_ms))
    measured = [cluster.reset(62)]
    cluster.apply(Plan(replicas=np.array([2])))
    measured += [cluster.advance(5.0) for _ in range(4)]
    assert [int(t.ready.sum()) for t in measured[1:]] == [2] * 4
    arrived, ended = totals(measured, "workload_rps")[0], sum(int(t.requests[0]) for t in measured)
    assert 0 <= arrived - ended < 40 and sum(int(t.failed[0]) for t in measured) == 0
    assert 0 <= arrived - totals(measured, "load_rps").sum() <= arrived - ended
    kept = measured[1].container_id
    assert kept.tolist() == [0, 1] and np.all(measured[-1].container_rps > 0.0)


def test_a_removed_container_takes_no_new_calls() -> None:
    """From the moment of the decision on, spans start in the containers that stay only."""
    cluster = EventCluster(setting(200.0, replicas=6, trace_sampling=1.0))
    cluster.reset(63)
    cluster.apply(Plan(replicas=np.array([2])))
    spans = cluster.advance(10.0).spans
    late = spans[spans["start_s"] > 5.0 + 1e-9]
    assert len(late) > 1500 and set(late["container"].tolist()) == {0, 1}


def test_the_youngest_on_the_fullest_host_goes_first() -> None:
    """As a ReplicaSet: from the host with most containers, the youngest; what is not ready goes before all."""
    cluster = EventCluster(setting(10.0, replicas=5, startup_s=3.0))
    hosts = cluster.reset(64).container_host
    fullest = int(np.argmax(np.bincount(hosts)))
    cluster.apply(Plan(replicas=np.array([4])))
    after = cluster.advance(5.0)
    assert set(range(5)) - set(after.container_id.tolist()) == {int(np.flatnonzero(hosts == fullest)[-1])}
    cluster.apply(Plan(replicas=np.array([6])))
    pending = cluster.advance(1.0)
    assert pending.pending.sum() == 2
    cluster.apply(Plan(replicas=np.array([4])))
    assert cluster.advance(1.0).container_id.tolist() == after.container_id.tolist()


def test_no_more_containers_than_there_is_room() -> None:
    """What finds no host stays wanted, and comes when there is room."""
    app = application({"a": microservice(1.0, 4.0), "b": microservice(1.0, 4.0)}, call("a", [call("b")]))
    small = scenario(app, 10.0, {"a": 2, "b": 1}, hosts=Hosts(count=1, cores=16.0, memory_mb=1e4), startup_s=1.0)
    cluster = EventCluster(small)
    cluster.reset(65)
    cluster.apply(Plan(replicas=np.array([2, 5])))
    full = cluster.advance(5.0)
    assert full.ready.sum() == 4 and full.wanted.tolist() == [2, 5]
    cluster.apply(Plan(replicas=np.array([1, 5])))
    assert cluster.advance(10.0).ready[:, 0].tolist() == [1, 3]


def test_proportions_keep_the_weight_per_container() -> None:
    """D_j S'_j / S_j, normalised, when containers are added."""
    cluster = EventCluster(setting(10.0, replicas=2, startup_s=1.0))
    first = cluster.reset(66)
    assert first.ready.tolist() == [[1, 1]]
    cluster.apply(Plan(proportions=np.array([[0.8, 0.2]]), replicas=np.array([3])))
    after = cluster.advance(5.0)
    raw = np.array([0.8, 0.2]) * after.ready[0]
    assert after.ready.sum() == 3
    np.testing.assert_allclose(after.proportions[0], raw / raw.sum())


def assert_finite(telemetry: Telemetry) -> None:
    """No NaN and no infinity anywhere."""
    for value in vars(telemetry).values():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            assert np.all(np.isfinite(value))


def test_nobody_uses_it() -> None:
    """Without requests everything is zero and finite, and the cluster goes on."""
    cluster = EventCluster(setting(0.0))
    for t in (cluster.reset(67), cluster.advance(5.0)):
        assert_finite(t)
        assert t.requests[0] == t.failed[0] == t.slow[0] == 0 and t.latencies_ms[0].size == 0
        assert not t.load_rps.any() and not t.own_latency_ms.any() and not t.samples.any() and not t.e2e_ms.any()
        assert not t.container_cpu.any() and len(t.spans) == 0
        np.testing.assert_allclose(t.age_s, t.time_s)


def test_last_known_latency_ages() -> None:
    """Where no span ends the last latency stays, with its age, and no samples."""
    cluster = EventCluster(setting(50.0, effects=neutral()))
    first = cluster.reset(68)
    cluster.apply(Plan(proportions=np.array([[1.0, 0.0]])))
    cluster.advance(1.0)
    before, after = cluster.advance(5.0), cluster.advance(5.0)
    assert first.age_s.tolist() == [[0.0, 0.0]]
    assert after.samples[0, 1] == 0 and after.samples[0, 0] > 0
    assert after.own_latency_ms[0, 1] == before.own_latency_ms[0, 1] > 0.0
    assert after.age_s[0].tolist() == [0.0, pytest.approx(before.age_s[0, 1] + 5.0)]


def test_a_placement_says_where_containers_come_and_go() -> None:
    """To the largest shortfall, from the largest surplus; nothing moves for its sake; zeros leave it open again."""
    cluster = EventCluster(setting(10.0, replicas=4, startup_s=1.0))
    assert cluster.reset(69).ready.tolist() == [[2, 2]]
    cluster.apply(Plan(placement=np.array([[6, 1]])))
    assert cluster.advance(5.0).ready.tolist() == [[2, 2]]
    cluster.apply(Plan(replicas=np.array([7])))
    # Shortfalls are 4 and -1: the three new ones go to the first host.
    assert cluster.advance(5.0).ready.tolist() == [[5, 2]]
    cluster.apply(Plan(replicas=np.array([5]), placement=np.array([[4, 0]])))
    # Surpluses are 1 and 2: one goes from the second; then, at 1 and 1, the youngest of the host with most containers.
    assert cluster.advance(5.0).ready.tolist() == [[4, 1]]
    cluster.apply(Plan(replicas=np.array([8]), placement=np.array([[0, 0]])))
    assert cluster.advance(5.0).ready.tolist() == [[4, 4]]


def test_a_placement_gives_way_where_there_is_no_room() -> None:
    """What does not fit on the wanted host goes where it fits."""
    app = application({"a": microservice(1.0, 4.0)}, call("a"))
    cluster = EventCluster(scenario(app, 10.0, 1, hosts=Hosts(count=2, cores=8.0, memory_mb=1e4), startup_s=1.0))
    cluster.reset(70)
    cluster.apply(Plan(replicas=np.array([4]), placement=np.array([[4, 0]])))
    assert cluster.advance(5.0).ready.tolist() == [[2, 2]]


@pytest.mark.parametrize("placement", [[4, 0], [[4, -1]], [[4, 0, 0]]])
def test_an_illegal_placement_is_refused(placement: list[int]) -> None:
    cluster = EventCluster(setting(10.0))
    cluster.reset(71)
    with pytest.raises(ValueError, match=r"placement must be \(1, 2\)"):
        cluster.apply(Plan(placement=np.array(placement)))
