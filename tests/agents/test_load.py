"""What load policies promise for any measurement."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.load.balanced import BalancedLoad
from agents.load.imbres import ImbresLoad
from agents.load.per_request import LeastRequestLoad, PeakEwmaLoad, PrequalLoad, WeightedRoundRobinLoad
from imbres_gym.config import ConfigError
from imbres_gym.plan import Balancer, balanced_proportions

HOSTS = 3
latencies = st.one_of(st.just(0.0), st.floats(0.0, 100.0), st.just(1e30), st.just(float("nan")), st.just(float("inf")))
interval = st.tuples(
    st.lists(st.integers(0, 5), min_size=HOSTS, max_size=HOSTS),
    st.lists(latencies, min_size=HOSTS, max_size=HOSTS),
    st.lists(st.integers(0, 3), min_size=HOSTS, max_size=HOSTS),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(interval, min_size=1, max_size=12), st.floats(0.01, 5.0))
def test_proportions_are_simplexes_on_ready_hosts(
    intervals: list[tuple[list[int], list[float], list[int]]], eta: float
) -> None:
    info = make_info(microservices=1, hosts=HOSTS)
    policy = ImbresLoad(eta=eta)
    policy.reset(info, seed=0)
    for ready, latency, samples in intervals:
        row = policy.propose(make_observation(info, [ready], own_latency_ms=[latency], samples=[samples]))[0]
        hosting = np.array(ready) > 0
        assert np.all(row[hosting] > 0.0)
        assert np.all(row[~hosting] == 0.0)
        assert row.sum() == pytest.approx(1.0 if hosting.any() else 0.0)


def test_a_host_without_fresh_samples_takes_no_part() -> None:
    info = make_info(microservices=1, hosts=3)
    policy = ImbresLoad(eta=0.2)
    policy.reset(info, seed=0)
    stale = make_observation(info, [[1, 1, 1]], own_latency_ms=[[30.0, 10.0, 500.0]], samples=[[9, 9, 0]])
    row = policy.propose(stale)[0]
    assert row == pytest.approx([0.3, 1.1 / 3.0, 1.0 / 3.0])


def test_a_host_many_times_slower_keeps_a_little_load() -> None:
    hosts = 20
    info = make_info(microservices=1, hosts=hosts)
    policy = ImbresLoad(floor=0.01)
    policy.reset(info, seed=0)
    slow = [[1000.0] + [1.0] * (hosts - 1)]
    for _ in range(50):
        row = policy.propose(make_observation(info, [[1] * hosts], own_latency_ms=slow))[0]
    assert 0.009 / hosts < row[0] < 0.011 / hosts


def test_equal_elasticity_is_equalised() -> None:
    # Latency in proportion to load and slowness: equal at D proportional to 1 / slowness = (2/3, 1/3).
    info = make_info(microservices=1)
    policy = ImbresLoad()
    policy.reset(info, seed=0)
    slowness, row = np.array([1.0, 2.0]), np.array([0.5, 0.5])
    for _ in range(40):
        row = policy.propose(make_observation(info, [[2, 2]], own_latency_ms=[slowness * row * 20.0]))[0]
    assert row == pytest.approx([2 / 3, 1 / 3], rel=0.01)


def test_a_reset_forgets() -> None:
    info = make_info(microservices=1)
    policy = ImbresLoad()
    policy.reset(info, seed=0)
    observation = make_observation(info, [[2, 2]], own_latency_ms=[[30.0, 10.0]])
    first = policy.propose(observation)
    policy.propose(observation)
    policy.reset(info, seed=0)
    assert np.array_equal(policy.propose(observation), first)


def test_balanced_load_follows_ready_containers() -> None:
    info = make_info()
    observation = make_observation(info, [[3, 1], [0, 2]], own_latency_ms=[[30.0, 10.0], [1.0, 9.0]])
    policy = BalancedLoad()
    policy.reset(info, seed=0)
    assert np.array_equal(policy.propose(observation), balanced_proportions(observation["ready"]))


@pytest.mark.parametrize("options", [{"eta": 0.0}, {"floor": 1.0}, {"floor": 0.0}, {"statistic": "median"}])
def test_wrong_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        ImbresLoad(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "balancer"),
    [
        (LeastRequestLoad, Balancer.LEAST_REQUEST),
        (PeakEwmaLoad, Balancer.PEAK_EWMA),
        (WeightedRoundRobinLoad, Balancer.WEIGHTED_ROUND_ROBIN),
        (PrequalLoad, Balancer.PREQUAL),
    ],
)
def test_balancers_of_calls_name_themselves_and_leave_load_balanced(
    kind: type[BalancedLoad], balancer: Balancer
) -> None:
    info = make_info()
    policy = kind()
    policy.reset(info, seed=0)
    assert policy.propose(make_observation(info, [[1, 3], [2, 2]])).tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert policy.balancer is balancer  # type: ignore[attr-defined]
