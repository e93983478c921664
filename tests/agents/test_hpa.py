"""The HPA over time: which containers count, stabilisation, rate limit, bounds."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.scaling.hpa import HorizontalPodAutoscaler
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo


@pytest.fixture
def info() -> ClusterInfo:
    return make_info(microservices=1, hosts=1, scaling_interval_s=15.0)


def started(info: ClusterInfo, target: float = 0.5) -> HorizontalPodAutoscaler:
    policy = HorizontalPodAutoscaler(target=target)
    policy.reset(info, seed=0)
    return policy


def at(info: ClusterInfo, time_s: float, cpu: float, count: int = 10, wanted: int = 10) -> Observation:
    observation = make_observation(info, [[count]], time_s=[time_s], wanted=[wanted])
    observation["container_usage"][:count, 1] = cpu
    return observation


def test_a_sync_every_interval_on_the_mean_of_the_last_15_s(info: ClusterInfo) -> None:
    policy = started(info)
    assert policy.scale(at(info, 5.0, 1.0)).tolist() == [4]
    assert policy.scale(at(info, 10.0, 0.7)).tolist() == [4]
    # (1.0 + 0.7 + 0.7) / 3 = 80 %: ratio 1.6.
    assert policy.scale(at(info, 15.0, 0.7)).tolist() == [16]
    assert policy.scale(at(info, 20.0, 0.1)).tolist() == [16]
    # (0.7 + 0.7 + 0.1) / 3 = 50 % would be right, but 16 was recommended within the last 300 s.
    policy.scale(at(info, 25.0, 0.7))
    assert policy.scale(at(info, 30.0, 0.7)).tolist() == [16]


def test_scaling_down_waits_for_300_s(info: ClusterInfo) -> None:
    policy = started(info)
    wanted = {t: int(policy.scale(at(info, float(t), 0.2))[0]) for t in range(5, 400, 5)}
    # The 10 replicas found at 15 s count until 315 s; 0.2 / 0.5 of 10 is 4.
    assert [wanted[t] for t in (15, 300, 315, 330)] == [10, 10, 10, 4]


def test_a_sync_at_most_doubles(info: ClusterInfo) -> None:
    policy = started(info, target=0.1)
    policy.scale(at(info, 5.0, 1.0, count=1, wanted=1))
    assert policy.scale(at(info, 15.0, 1.0, count=1, wanted=1)).tolist() == [4]
    policy = started(info, target=0.1)
    assert policy.scale(at(info, 15.0, 1.0, count=10, wanted=10)).tolist() == [20]


def test_containers_that_are_not_ready_are_ignored(info: ClusterInfo) -> None:
    policy = started(info)
    for time_s in 5.0, 10.0, 15.0:
        observation = at(info, time_s, 0.8)
        observation["containers"][8:10, 3] = 0
        observation["container_usage"][8:10] = 0.0
        wanted = policy.scale(observation)
    # 8 at 80 %, 2 ignored: 64 % of 10, ceil(12.8).
    assert wanted.tolist() == [13]


def test_a_young_container_counts_after_a_whole_window(info: ClusterInfo) -> None:
    policy = started(info)
    wanted = {}
    for time_s in range(5, 50, 5):
        observation = at(info, float(time_s), 0.8)
        # Two containers appear at 20 s, and are ready at 25 s.
        observation["container_usage"][8:10, 2] = max(time_s - 20, 0)
        observation["containers"][8:10, 3] = time_s >= 25
        if time_s < 20:
            observation["containers"][8:10] = -1
        wanted[time_s] = int(policy.scale(observation)[0])
    # At 30 s they have been ready for 5 s: 8 count. At 45 s for 20 s: 10 at 80 %.
    assert wanted[30] == 13
    assert wanted[45] == 16


def test_an_old_container_that_lost_readiness_counts(info: ClusterInfo) -> None:
    policy = started(info)
    for time_s in 5.0, 10.0, 15.0:
        observation = at(info, time_s, 0.8)
        if time_s > 5.0:
            observation["containers"][8:10, 3] = 0
        wanted = policy.scale(observation)
    assert wanted.tolist() == [16]


def test_replicas_that_no_host_has_room_for_count_as_pending(info: ClusterInfo) -> None:
    policy = started(info)
    # 10 of 20 run, at 80 %: with 10 at 0 % it would be 40 %, so the direction would turn: 20 stay, after 300 s too.
    wanted = [int(policy.scale(at(info, float(t), 0.8, count=10, wanted=20))[0]) for t in range(5, 400, 5)]
    assert wanted[2:] == [20] * len(wanted[2:])


def test_without_any_ready_container_nothing_changes(info: ClusterInfo) -> None:
    policy = started(info)
    observation = at(info, 15.0, 0.8)
    observation["containers"][:, 3] = np.where(observation["containers"][:, 0] >= 0, 0, -1)
    assert policy.scale(observation).tolist() == [10]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30), st.floats(0.0, 1.0)), min_size=1, max_size=10))
def test_replicas_stay_within_bounds(intervals: list[tuple[int, int, float]]) -> None:
    info = make_info(microservices=1, hosts=1, scaling_interval_s=15.0, min_replicas=2, max_replicas=20)
    policy = started(info, target=0.3)
    for step, (count, wanted, cpu) in enumerate(intervals, start=1):
        decision = policy.scale(at(info, 15.0 * step, cpu, count, wanted))
        assert 2 <= decision[0] <= 20


@pytest.mark.parametrize("target", [0.0, 1.5])
def test_the_target_is_checked(target: float) -> None:
    with pytest.raises(ConfigError, match="target"):
        HorizontalPodAutoscaler(target=target)
