"""What is fast decides the same, to the last bit, as what is readable."""

from __future__ import annotations

import numpy as np
import pytest
import readable
from fakes import make_info, make_observation, match_shares
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.connections.clustering import kmeans_1d
from agents.connections.imbres_grouping import GroupingConnections
from agents.load.imbres import ImbresLoad
from agents.performance_table import PerformanceTable
from imbres_gym.observation import Observation
from imbres_gym.plan import Links, balanced_proportions
from imbres_gym.telemetry import ClusterInfo

HOSTS = 5
"""Fewer than eight: NumPy adds up as many numbers one after the other, as the fast version always does."""

share = st.one_of(st.just(0.0), st.just(0.25), st.floats(0.0, 1.0), st.floats(1e-12, 1e-6))


def identical(mine: Links, theirs: Links) -> bool:
    return all(
        np.array_equal(getattr(mine, name), getattr(theirs, name)) for name in ("upstream", "downstream", "weight")
    )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_matching(data: st.DataObject) -> None:
    sent = np.array(data.draw(st.lists(share, min_size=1, max_size=15)))
    received = np.array(data.draw(st.lists(share, min_size=1, max_size=15).filter(lambda values: sum(values) > 1e-3)))
    group = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(sent), max_size=len(sent))))
    up, down = np.arange(len(sent))[::-1].copy(), 100 + np.arange(len(received))
    assert identical(match_shares(up, sent, down, received, group), readable.match(up, sent, down, received, group))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.integers(0, 6).map(float), st.floats(0.0, 1e4)), min_size=1, max_size=40), st.integers(1, 12)
)
def test_clustering(numbers: list[float], k: int) -> None:
    values = np.array(numbers)
    assert kmeans_1d(values, k).tolist() == readable.kmeans(values, k).tolist()


@pytest.mark.parametrize("bins", [1, 3, 4])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_table(bins: int, data: st.DataObject) -> None:
    """More loads than a new store has room for in a row, and more interferences than it has rows."""
    level, load = st.floats(0.0, 1.0), st.one_of(st.integers(0, 40).map(float), st.floats(0.0, 100.0))
    point = st.tuples(st.tuples(level, level, level), load)
    latency = st.one_of(st.floats(0.1, 1e3), st.sampled_from([0.0, -1.0, np.nan, np.inf]))
    samples = data.draw(st.lists(st.tuples(point, latency), max_size=60))
    table = PerformanceTable(make_info(microservices=1, hosts=1), bins=bins)
    table.observe(make_observation(make_info(microservices=1, hosts=1), [[1]], load_rps=[[10.0]], samples=[[1]]))
    slow = readable.Table(bins, 0.3, [{}])
    slow.insert(0, [np.float32(0.3)] * 3, 10.0, table.maximum_load_rps(0), 20.0)
    for (interference, w), tail in samples:
        table.insert(0, interference, w, tail)
        slow.insert(0, interference, w, float(table.maximum_load_rps(0)), tail)
    questions = data.draw(st.lists(point, min_size=1, max_size=20))
    interference, loads = zip(*questions, strict=True)
    answers = table.latency_ms(np.zeros(len(loads), np.int64), interference, loads)
    assert answers.tolist() == [slow.latency_ms(0, *question) for question in questions]


def random_interval(rng: np.random.Generator, info: ClusterInfo, time_s: float) -> Observation:
    """Any interval: hosts without containers or samples, microservices that are not ready, starting containers."""
    shape = len(info.microservices), len(info.hosts)
    ready = rng.integers(0, 4, shape) * (rng.random(shape) < 0.8)
    return make_observation(
        info,
        ready.tolist(),
        time_s=[time_s],
        pending=rng.integers(0, 2, shape),
        interference=rng.uniform(0.0, 0.9, (shape[1], 4)),
        samples=ready * rng.integers(0, 30, shape),
        load_rps=ready * rng.uniform(0.0, 50.0, shape),
        cpu_utilisation=rng.uniform(0.1, 0.9, shape),
        own_latency_ms=rng.uniform(1.0, 100.0, shape),
        own_p95_ms=rng.uniform(1.0, 300.0, shape),
        microservice_p95_ms=rng.uniform(1.0, 300.0, shape[0]),
    )


def random_proportions(rng: np.random.Generator, ready: NDArray[np.int64]) -> NDArray[np.float64]:
    weight = ready * rng.uniform(0.05, 1.0, ready.shape)
    total = weight.sum(axis=1, keepdims=True)
    return np.divide(weight, total, out=np.zeros_like(weight), where=total > 0.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_plans_over_several_intervals(seed: int, budget: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = ((0, 1), (0, 2), (1, 2), (2, 3))
    info = make_info(microservices=4, hosts=HOSTS, pairs=pairs, connections_per_container=budget)
    policy = GroupingConnections()
    policy.reset(info, seed=0)
    slow = readable.Table(4, 0.3, [{} for _ in info.microservices])
    for step in range(1, 5):
        observation = random_interval(rng, info, 5.0 * step)
        proportions = random_proportions(rng, observation["ready"])
        plan = policy.connect(observation, proportions).links
        assert isinstance(policy.table, PerformanceTable)
        readable.learn(slow, observation, policy.table.maximum_load_rps(np.arange(4)))
        expected = readable.grouping_plan(observation, proportions, slow, pairs, budget)
        assert plan.keys() == expected.keys()
        assert all(identical(plan[pair], expected[pair]) for pair in expected)


@pytest.mark.parametrize("hosts", [HOSTS, 40])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_load_shifting(hosts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    info = make_info(microservices=3, hosts=hosts)
    policy = ImbresLoad()
    policy.reset(info, seed=0)
    expected = before = None
    for step in range(1, 5):
        observation = random_interval(rng, info, 5.0 * step)
        ready, l = observation["ready"], observation["own_latency_ms"].astype(np.float64)  # noqa: E741
        D = balanced_proportions(ready) if expected is None else readable.carry_over(expected, before, ready)
        expected = readable.shift_load(D, ready.astype(np.float64), l, observation["samples"] > 0, eta=0.2, floor=0.01)
        before = ready
        assert np.array_equal(policy.propose(observation), expected)
