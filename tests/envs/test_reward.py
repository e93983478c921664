from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_cluster import FakeCluster, tiny_scenario
from hypothesis import given
from hypothesis import strategies as st

from envs.account import COLUMNS, Account
from envs.reward import PARTS, RewardWeights, make_weights, reward_bounds, weighted_sum
from imbres_gym.imbalance import latency_cv, load_variance
from imbres_gym.observer import Observer
from imbres_gym.telemetry import ClusterInfo, Telemetry

CLUSTER = FakeCluster(tiny_scenario())
INFO: ClusterInfo = CLUSTER.info
BASE: Telemetry = CLUSTER.reset(1)


def measured(**changes: Any) -> Telemetry:
    arrays = {name: np.asarray(value) if isinstance(value, list) else value for name, value in changes.items()}
    return replace(BASE, **arrays)


def outcome_of(
    intervals: list[Telemetry], connections_before: int, info: ClusterInfo = INFO, weights: RewardWeights | None = None
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Reward, metrics and parts of a step."""
    observer, account = Observer(info), Account(info, weights or RewardWeights())
    account.start(connections_before)
    for telemetry in intervals:
        observer.add_telemetry(telemetry)
        account.add(observer.panel)
    values = dict(zip(COLUMNS, account.close(observer.panel), strict=True))
    return values["reward"], values, {part: values[part] for part in PARTS}


def parts_of(intervals: list[Telemetry], connections_before: int) -> dict[str, float]:
    return outcome_of(intervals, connections_before)[2]


def test_the_parts_of_a_hand_made_step() -> None:
    # Two containers of each microservice at the start (6 x 0.5 cores); now 3 + 3 + 3, one of them pending.
    first = measured(
        ready=[[2, 1], [2, 1], [2, 0]],
        pending=[[0, 0], [0, 0], [0, 1]],
        requests=[100],
        slow=[20],
        connections=[6, 4],
        connection_churn=4,
    )
    second = replace(first, requests=np.array([300]), slow=np.array([40]), connection_churn=0)
    parts = parts_of([first, second], connections_before=10)
    assert INFO.initial_replicas.tolist() == [2, 2, 2]
    assert parts["resource"] == pytest.approx(-9 / 6)
    # 60 of 400 requests are slow, 15 %; 5 % are allowed; the rest is rescaled by 95 %.
    assert parts["violation"] == pytest.approx(-0.10 / 0.95)
    # 4 of 10 + 10 connections in the first interval, none in the second.
    assert parts["churn"] == pytest.approx(-(4 / 20 + 0.0) / 2)


@pytest.mark.parametrize(("slow", "violation"), [(0, 0.0), (5, 0.0), (6, -0.01 / 0.95), (100, -1.0)])
def test_a_violation_starts_where_the_p95_exceeds_the_sla(slow: int, violation: float) -> None:
    parts = parts_of([measured(requests=[100], slow=[slow])], connections_before=0)
    assert parts["violation"] == pytest.approx(violation)


def test_the_latency_part_is_a_half_at_the_sla_and_counts_failures_as_slowest() -> None:
    # SLA 20 ms. 100 requests of 20 ms: 20 / (20 + 20); of 60 ms: 60 / (60 + 20).
    for latency_ms, part in ((20.0, -0.5), (60.0, -0.75)):
        telemetry = measured(latencies_ms=(np.full(100, latency_ms),), requests=[100], failed=[0])
        assert parts_of([telemetry], 0)["latency"] == pytest.approx(part)
    # 10 of 110 failed: the p95 is theirs, 10 s.
    telemetry = measured(latencies_ms=(np.full(100, 20.0),), requests=[110], failed=[10])
    assert parts_of([telemetry], 0)["latency"] == pytest.approx(-10_000 / 10_020)


def test_latency_counts_nothing_unless_it_is_given_a_weight() -> None:
    parts = {"resource": -1.0, "violation": 0.0, "churn": 0.0, "latency": -0.5}
    assert weighted_sum(parts, RewardWeights()) == -1.0
    assert weighted_sum(parts, make_weights({"latency": 4.0})) == -3.0


def test_no_requests_are_no_violation() -> None:
    assert parts_of([measured(requests=[0], slow=[0])], connections_before=0)["violation"] == 0.0


def test_the_worst_class_counts() -> None:
    two = replace(INFO, classes=("read", "write"))
    telemetry = measured(requests=[1000, 10], slow=[0, 10], latencies_ms=(np.ones(9), np.ones(9)))
    assert outcome_of([telemetry], 0, two)[2]["violation"] == pytest.approx(-1.0)


@given(
    ready=st.lists(st.integers(0, 3), min_size=6, max_size=6),
    requests=st.integers(0, 1000),
    share=st.floats(0, 1),
    connections=st.integers(0, 100),
    before=st.integers(0, 100),
    churn=st.integers(0, 200),
    weights=st.builds(RewardWeights, *[st.floats(0, 100)] * 4),
)
def test_the_reward_stays_within_its_bounds(
    ready: list[int],
    requests: int,
    share: float,
    connections: int,
    before: int,
    churn: int,
    weights: RewardWeights,
) -> None:
    telemetry = measured(
        ready=np.reshape(ready, (3, 2)),
        pending=np.zeros((3, 2), int),
        requests=[requests],
        slow=[int(share * requests)],
        connections=[connections, 0],
        connection_churn=churn,
    )
    reward, _, parts = outcome_of([telemetry], before, weights=weights)
    assert reward == pytest.approx(weighted_sum(parts, weights))
    bounds = reward_bounds(INFO, weights)
    for name, value in {**parts, "reward": reward}.items():
        low, high = bounds[name]
        assert low - 1e-9 <= value <= high


def test_the_most_expensive_cluster_reaches_the_lower_bound() -> None:
    full = measured(ready=[[3, 3]] * 3, pending=[[0, 0]] * 3, requests=[9], slow=[9], connections=[0, 0])
    parts = parts_of([replace(full, connection_churn=50)], connections_before=50)
    weights = RewardWeights()
    assert weighted_sum(parts, weights) == pytest.approx(reward_bounds(INFO, weights)["reward"][0])


def test_weights_that_are_not_named_keep_their_default() -> None:
    assert make_weights({"churn": 2.0}) == RewardWeights(churn=2.0)
    assert make_weights(RewardWeights(resource=3.0)).resource == 3.0
    assert make_weights(None) == RewardWeights()


def test_the_metrics_of_a_hand_made_step() -> None:
    first = measured(
        ready=[[2, 1], [2, 1], [2, 0]],
        pending=[[0, 0], [0, 0], [0, 1]],
        latencies_ms=(np.arange(1.0, 51.0),),
        requests=[50],
        slow=[30],
        connections=[6, 4],
        connection_churn=3,
        workload_rps=[10.0],
    )
    second = replace(
        first,
        time_s=BASE.time_s + 5.0,
        latencies_ms=(np.arange(51.0, 100.0),),
        failed=np.array([1]),
        workload_rps=np.array([12.0]),
    )
    metrics = outcome_of([first, second], connections_before=0)[1]
    # The latencies are 1..99 ms and one failed request, which counts as 10 s.
    everything = np.append(np.arange(1.0, 100.0), 10_000.0)
    assert metrics["p50_ms"] == pytest.approx(np.percentile(everything, 50))
    assert metrics["p99_ms"] == pytest.approx(np.percentile(everything, 99))
    assert metrics["window_p95_ms"] == pytest.approx(np.percentile(everything, 95))
    assert metrics["sla_violation"] == 1.0
    assert metrics["containers"] == 9.0
    assert metrics["connections"] == 10.0
    assert metrics["connection_churn"] == 6.0
    assert metrics["request_violation"] == pytest.approx(0.6)
    assert metrics["failed"] == pytest.approx(0.01)
    assert metrics["workload_rps"] == 11.0


def test_load_variance_is_relative_and_skips_what_has_no_load() -> None:
    telemetry = measured(
        container_microservice=[0, 0, 1, 1, 2],
        container_ready=[True, True, True, False, True],
        container_rps=[10.0, 30.0, 5.0, 500.0, 0.0],
    )
    # Microservice 0: variance 100 over 20 squared; 1: one ready container; 2: without load.
    assert load_variance(telemetry) == pytest.approx((0.25 + 0.0) / 2)
    assert load_variance(replace(telemetry, container_rps=np.zeros(5))) == 0.0


def test_latency_cv_looks_at_fresh_measurements_only() -> None:
    telemetry = measured(
        own_latency_ms=[[10.0, 30.0], [5.0, 900.0], [7.0, 7.0]],
        samples=[[4, 4], [4, 0], [0, 0]],
    )
    assert latency_cv(telemetry) == pytest.approx((0.5 + 0.0) / 2)
