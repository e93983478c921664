"""The window scaler over time: peaks are remembered, scaling in is deferred, counts stay inside the bounds."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.scaling.autopilot import AutopilotScaling
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo


@pytest.fixture
def info() -> ClusterInfo:
    return make_info(microservices=1, hosts=1, initial_replicas=np.array([10]), max_replicas=100)


def started(info: ClusterInfo, **options: float) -> AutopilotScaling:
    policy = AutopilotScaling(**options)
    policy.reset(info, seed=0)
    return policy


def at(info: ClusterInfo, time_s: float, cpu: float, ready: int = 10) -> Observation:
    return make_observation(info, [[ready]], time_s=[time_s], cpu_utilisation=[[cpu]])


def test_the_use_of_an_interval_is_averaged_and_divided_by_the_target(info: ClusterInfo) -> None:
    policy = started(info, target=0.5)
    for time_s in range(5, 60, 5):
        assert policy.scale(at(info, float(time_s), 0.9)).tolist() == [10]
    # (11 * 0.9 + 0.3) / 12 = 85 % of 10 containers is 8.5 containers' use: 17 at a target of 50 %.
    assert policy.scale(at(info, 60.0, 0.3)).tolist() == [17]


def test_scaling_in_waits_and_then_follows_the_decaying_peak(info: ClusterInfo) -> None:
    policy = started(info, target=0.5, half_life_s=300.0, window_s=900.0, downscale_s=120.0)
    use = [1.0, *[0.1] * 20]  # 20 containers wanted at 60 s; 2 at the low use
    wanted = [int(policy.scale(at(info, 60.0 * (k + 1), u))[0]) for k, u in enumerate(use)]
    assert wanted[:3] == [20, 20, 20]  # deferred by two minutes
    # What was recommended a minute after the peak, 20 * 2 ** (-60 / 300) = 17.4, is 18: too small a change. A minute
    # later it is 20 * 2 ** (-120 / 300) = 15.2.
    assert wanted[3:5] == [20, 16]
    # Ages up to 900 s count: the last recommendation with the peak is 20 / 8 = 2.5 at 960 s; it counts to 1080 s.
    assert wanted[17] == 3
    assert wanted[18] == 2


@settings(max_examples=50, deadline=None)
@given(use=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=40))
def test_counts_stay_inside_the_bounds_and_at_most_double(use: list[float]) -> None:
    info = make_info(microservices=1, hosts=1, min_replicas=2, max_replicas=30)
    policy = started(info)
    before = int(info.initial_replicas[0])
    for minute, value in enumerate(use, start=1):
        count = int(policy.scale(at(info, 60.0 * minute, value))[0])
        assert 2 <= count <= min(30, 2 * before)
        before = count


@pytest.mark.parametrize(
    ("option", "value"), [("target", 0.0), ("window_s", 0.0), ("half_life_s", float("inf")), ("downscale_s", -1.0)]
)
def test_options_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=option):
        AutopilotScaling(**{option: value})
