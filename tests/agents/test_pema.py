"""PEMA over time: it reduces while there is slack, rolls back without, and stays inside the bounds."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.scaling.pema import PemaScaling
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

M = 4


@pytest.fixture
def info() -> ClusterInfo:
    return make_info(microservices=M, hosts=1, initial_replicas=np.full(M, 20, np.int64))


def started(info: ClusterInfo, seed: int = 0) -> PemaScaling:
    policy = PemaScaling()
    policy.reset(info, seed)
    return policy


def at(info: ClusterInfo, minute: int, p95_ms: float, cpu: float = 0.4) -> Observation:
    return make_observation(
        info, [[5]] * M, time_s=[60.0 * minute], window_p95_ms=[p95_ms], cpu_utilisation=np.full((M, 1), cpu)
    )


def test_much_slack_shrinks_all_by_beta(info: ClusterInfo) -> None:
    # Slack 0.9 of the SLA: all four lose 30 % of 20.
    assert started(info).scale(at(info, 1, 10.0)).tolist() == [14, 14, 14, 14]


def test_some_slack_shrinks_some(info: ClusterInfo) -> None:
    # Slack 0.25: 4 / 0.5 * 0.25 = 2 microservices lose 0.6 * 0.25 = 15 % of 20.
    assert sorted(started(info).scale(at(info, 1, 75.0)).tolist()) == [17, 17, 20, 20]


def test_nothing_changes_between_scaling_intervals(info: ClusterInfo) -> None:
    policy = started(info)
    before = at(info, 1, 10.0)
    before["time_s"][0] = 55.0
    assert policy.scale(before).tolist() == [20] * M


def test_a_violation_restores_the_last_safe_counts(info: ClusterInfo) -> None:
    policy = started(info)
    safe = policy.scale(at(info, 1, 60.0)).tolist()
    reduced = policy.scale(at(info, 2, 60.0)).tolist()
    assert sum(reduced) < sum(safe)
    assert policy.scale(at(info, 3, 150.0)).tolist() == safe
    # Safe no longer: the start is what remains, and after it only growth by 30 %.
    assert policy.scale(at(info, 4, 150.0)).tolist() == [20] * M
    assert policy.scale(at(info, 5, 150.0)).tolist() == [26] * M


def test_throttled_microservices_are_left_alone(info: ClusterInfo) -> None:
    assert started(info).scale(at(info, 1, 10.0, cpu=0.9)).tolist() == [20] * M


def test_the_same_seed_gives_the_same_decisions(info: ClusterInfo) -> None:
    def run(seed: int) -> list[list[int]]:
        policy = started(info, seed)
        return [policy.scale(at(info, minute, 75.0)).tolist() for minute in range(1, 20)]

    assert run(3) == run(3)
    assert run(3) != run(4)


@settings(max_examples=50, deadline=None)
@given(p95=st.lists(st.floats(0.0, 10_000.0), min_size=1, max_size=40), cpu=st.floats(0.0, 2.0))
def test_counts_stay_inside_the_bounds(p95: list[float], cpu: float) -> None:
    info = make_info(microservices=M, hosts=1, min_replicas=2, max_replicas=30)
    policy = started(info)
    for minute, value in enumerate(p95, start=1):
        counts = policy.scale(at(info, minute, value, cpu))
        assert counts.dtype == np.int64
        assert np.all((counts >= 2) & (counts <= 30))


@settings(max_examples=50, deadline=None)
@given(slacks=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=15), seed=st.integers(0, 100))
def test_a_violation_restores_earlier_counts_or_makes_more(slacks: list[float], seed: int) -> None:
    info = make_info(microservices=M, hosts=1)
    policy = started(info, seed)
    met = [info.initial_replicas.tolist()]
    minute = 0
    for value in slacks:
        minute += 1
        met.append(policy.scale(at(info, minute, value)).tolist())
    after = policy.scale(at(info, minute + 1, 101.0)).tolist()
    assert after in met[:-1] or np.all(np.array(after) > met[-1])


@pytest.mark.parametrize(("option", "value"), [("alpha", 0.0), ("alpha", 1.5), ("beta", 0.0), ("beta", 1.0)])
def test_options_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=option):
        PemaScaling(**{option: value})
