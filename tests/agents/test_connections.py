"""What connection policies promise for any load proportions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from fakes import make_info, make_observation, match_shares
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.connections.clustering import kmeans_1d
from agents.connections.full import FullConnections
from agents.connections.imbres_grouping import GroupingConnections
from agents.connections.matching import MIN_SHARE
from agents.connections.random_k import RandomConnections
from agents.containers import container_shares, ready_containers
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.plan import FULL_CONNECTION, Links, balanced_proportions

shares = st.lists(st.one_of(st.just(0.0), st.floats(0.0, 1.0), st.floats(1e-12, 1e-6)), min_size=1, max_size=12).filter(
    lambda values: sum(values) > 1e-3
)


def received(links: Links, sent: dict[int, float]) -> dict[int, float]:
    """Share of the calls that reaches each downstream container."""
    total: dict[int, float] = {}
    for u, d, w in zip(links.upstream.tolist(), links.downstream.tolist(), links.weight.tolist(), strict=True):
        total[d] = total.get(d, 0.0) + sent[u] * w
    return total


def by_id(ids: NDArray[np.int64], values: NDArray[np.float64]) -> dict[int, float]:
    return dict(zip(ids.tolist(), (values / values.sum()).tolist(), strict=True))


@settings(max_examples=200, deadline=None)
@given(shares, shares)
def test_a_match_delivers_every_share_over_few_links(sent: list[float], wanted: list[float]) -> None:
    up, down = np.arange(len(sent)), 100 + np.arange(len(wanted))
    links = match_shares(up, np.array(sent), down, np.array(wanted))
    result = received(links, by_id(up, np.array(sent)))
    slack = 1e-6 + MIN_SHARE * len(sent)
    for container, share in by_id(down, np.array(wanted)).items():
        assert result.get(container, 0.0) == pytest.approx(share, abs=slack)
    assert len(links) <= len(up) + len(down) - 1
    assert len(set(zip(links.upstream.tolist(), links.downstream.tolist(), strict=True))) == len(links)
    assert np.bincount(links.upstream, links.weight) == pytest.approx(np.ones(len(up)))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_group_delivers_the_shares(data: st.DataObject) -> None:
    sent = np.array(data.draw(shares))
    wanted = np.array(data.draw(shares))
    label = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(sent), max_size=len(sent))))
    down = 100 + np.arange(len(wanted))
    links = match_shares(np.arange(len(sent)), sent, down, wanted, label)
    for group in np.unique(label):
        members = np.flatnonzero(label == group)
        if sent[members].sum() < 1e-3:
            continue
        keep = np.isin(links.upstream, members)
        part = Links(links.upstream[keep], links.downstream[keep], links.weight[keep])
        result = received(part, by_id(members, sent[members]))
        for container, share in by_id(down, wanted).items():
            assert result.get(container, 0.0) == pytest.approx(share, abs=1e-5)


def skewed(ready: list[list[int]], seed: int) -> NDArray[np.float64]:
    """Random legal load proportions."""
    counts = np.array(ready, np.float64)
    weight = counts * np.random.default_rng(seed).uniform(0.1, 1.0, counts.shape)
    return weight / weight.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("budget", [1, 2, 10])
def test_grouping_stays_within_the_budget_but_for_the_upstream_containers(budget: int) -> None:
    hosts, ready = 6, [[5, 7, 3, 6, 4, 5], [4, 2, 6, 1, 3, 4]]
    info = make_info(hosts=hosts, connections_per_container=budget)
    policy = GroupingConnections()
    policy.reset(info, seed=0)
    proportions = skewed(ready, seed=1)
    interference = np.linspace(0.05, 0.75, hosts)[:, None] * np.ones(4)
    observation = make_observation(
        info, ready, interference=interference, own_p95_ms=np.outer([1, 1], 10 + 100 * interference[:, 0])
    )
    links = policy.connect(observation, proportions).links[0]
    n_up, n_down = sum(ready[0]), sum(ready[1])
    groups = min(budget, hosts)
    assert n_up <= len(links) <= groups * n_down + n_up - groups
    up, down = ready_containers(observation, proportions)
    result = received(links, by_id(up.ids, up.shares))
    for container, share in by_id(down.ids, down.shares).items():
        assert result[container] == pytest.approx(share, abs=1e-6)


def test_containers_of_equally_fast_hosts_share_a_group() -> None:
    # Hosts 0 and 1 are alike and calm, host 2 is not; a budget of 2 makes two groups.
    info = make_info(hosts=3, connections_per_container=2)
    policy = GroupingConnections()
    policy.reset(info, seed=0)
    ready = [[2, 2, 2], [2, 2, 2]]
    observation = make_observation(
        info, ready, interference=[[0.1] * 4, [0.1] * 4, [0.7] * 4], own_p95_ms=[[10.0, 10.0, 90.0]] * 2
    )
    links = policy.connect(observation, balanced_proportions(np.array(ready))).links[0]
    # Slow: ids 4 and 5, which share 6 downstream containers: 6 links. Fast: 4 containers and 6, of equal shares:
    # the ends 1/4, 1/2, 3/4 and 1/6 ... 5/6 have 1/2 in common, so 4 + 6 - 2 links.
    slow = np.isin(links.upstream, [4, 5])
    assert slow.sum() == 6
    assert (~slow).sum() == 8


@pytest.mark.parametrize(("least_group", "most"), [(0.0, 20), (0.5, 11)])
def test_the_slowest_container_has_all_connections_of_its_group(least_group: float, most: int) -> None:
    # Nine upstream containers on hosts that are nearly alike and one on a slow host; two groups. By itself the slow one
    # has a connection to each of 20 downstream containers; half of an even group are three, of which it is one.
    info = make_info(hosts=10, connections_per_container=2)
    policy = GroupingConnections(least_group=least_group)
    policy.reset(info, seed=0)
    ready = [[1] * 10, [2] * 10]
    slow = np.array([0.1 + 0.001 * j for j in range(9)] + [0.7])
    observation = make_observation(
        info, ready, interference=slow[:, None] * np.ones(4), own_p95_ms=np.outer([1.0, 1.0], 100.0 * slow)
    )
    links = policy.connect(observation, balanced_proportions(np.array(ready))).links[0]
    assert np.bincount(links.upstream).max() <= most
    assert (np.bincount(links.upstream)[9] == 20) == (least_group == 0.0)


def test_the_least_group_is_a_share() -> None:
    with pytest.raises(ConfigError, match="least_group"):
        GroupingConnections(least_group=1.5)


def test_a_microservice_that_is_not_ready_is_left_out() -> None:
    info = make_info(microservices=3)
    observation = make_observation(info, [[2, 2], [0, 0], [1, 1]])
    proportions = balanced_proportions(observation["ready"])
    for policy in GroupingConnections(), RandomConnections():
        policy.reset(info, seed=0)
        assert policy.connect(observation, proportions).links == {}


def test_only_ready_containers_take_part() -> None:
    info = make_info()
    observation = make_observation(info, [[2, 2], [2, 2]])
    observation["containers"][[0, 5], 3] = 0
    proportions = balanced_proportions(observation["ready"])
    for policy in GroupingConnections(), RandomConnections():
        policy.reset(info, seed=0)
        links = policy.connect(observation, proportions).links[0]
        assert set(links.upstream.tolist()) == {1, 2, 3}
        assert set(links.downstream.tolist()) == {4, 6, 7}


def test_full_connection_has_no_links() -> None:
    info = make_info()
    policy = FullConnections()
    policy.reset(info, seed=0)
    observation = make_observation(info, [[1, 1], [1, 1]])
    assert policy.connect(observation, balanced_proportions(observation["ready"])) is FULL_CONNECTION


def random_links(observation: Observation, proportions: NDArray[np.float64], seed: int = 3, k: int = 4) -> Links:
    policy = RandomConnections(k=k)
    policy.reset(make_info(), seed=seed)
    return policy.connect(observation, proportions).links[0]


def picks(links: Links) -> dict[int, set[int]]:
    chosen: dict[int, set[int]] = {}
    for u, d in zip(links.upstream.tolist(), links.downstream.tolist(), strict=True):
        chosen.setdefault(u, set()).add(d)
    return chosen


def test_random_picks_follow_the_proportions_of_the_picked() -> None:
    observation = make_observation(make_info(), [[3, 3], [5, 5]])
    proportions = np.array([[0.5, 0.5], [0.8, 0.2]])
    links = random_links(observation, proportions)
    hosts = {int(row[0]): int(row[2]) for row in observation["containers"]}
    for upstream, chosen in picks(links).items():
        assert len(chosen) == 4
        of_one = links.upstream == upstream
        share = np.array([proportions[1, hosts[d]] / 5 for d in links.downstream[of_one].tolist()])
        assert links.weight[of_one] == pytest.approx(share / share.sum())


def test_random_picks_change_only_with_the_containers() -> None:
    info = make_info()
    observation = make_observation(info, [[10, 10], [10, 10]])
    proportions = balanced_proportions(observation["ready"])
    before = picks(random_links(observation, proportions))
    assert before == picks(random_links(observation, np.array([[0.5, 0.5], [0.9, 0.1]])))
    assert before != picks(random_links(observation, proportions, seed=4))
    gone = 25
    observation["containers"][gone, 3] = 0
    after = picks(random_links(observation, proportions))
    for upstream, chosen in before.items():
        assert chosen - {gone} <= after[upstream]
        assert len(after[upstream]) == 4


def test_random_picks_are_uniform() -> None:
    info = make_info()
    observation = make_observation(info, [[100, 100], [5, 5]])
    links = random_links(observation, balanced_proportions(observation["ready"]))
    counts = np.bincount(links.downstream - 200, minlength=10)
    # 800 picks of 10 containers. Without replacement the chi-square statistic is scaled by (N - k) / (N - 1) = 2/3;
    # 27.9 is the 99.9 % quantile of 9 degrees of freedom.
    assert np.sum((counts - 80.0) ** 2 / 80.0) / (2 / 3) < 27.9


def test_with_few_downstream_containers_random_is_full() -> None:
    observation = make_observation(make_info(), [[2, 1], [2, 1]])
    links = random_links(observation, balanced_proportions(observation["ready"]))
    assert all(chosen == {3, 4, 5} for chosen in picks(links).values())


def test_k_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="k: 0"):
        RandomConnections(k=0)


def squared_deviations(values: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return sum(float(((values[labels == g] - values[labels == g].mean()) ** 2).sum()) for g in np.unique(labels))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 4))
def test_kmeans_is_optimal(numbers: list[int], k: int) -> None:
    values = np.array(numbers, np.float64)
    labels = kmeans_1d(values, k)
    assert len(np.unique(labels)) == min(k, len(set(numbers)))
    best = min(squared_deviations(values, np.array(p)) for p in itertools.product(range(k), repeat=len(values)))
    assert squared_deviations(values, labels) == pytest.approx(best, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=7), st.integers(1, 4), st.integers(1, 4))
def test_kmeans_with_a_least_size_is_the_best_of_what_complies(numbers: list[int], k: int, least: int) -> None:
    values = np.array(numbers, np.float64)

    def complies(labels: NDArray[np.int64]) -> bool:
        sizes = np.unique(labels, return_counts=True)[1]
        equal = np.unique(np.stack([values, labels]), axis=1).shape[1] == len(np.unique(values))
        intervals = np.count_nonzero(np.diff(labels[np.argsort(values, kind="stable")])) == len(sizes) - 1
        return bool(np.all(sizes >= min(least, len(values)))) and equal and intervals

    labels = kmeans_1d(values, k, least)
    assert complies(labels)
    assert labels[np.argsort(values)].tolist() == sorted(labels) and set(labels) == set(range(labels.max() + 1))
    partitions = (np.array(p) for p in itertools.product(range(k), repeat=len(values)))
    best = min(squared_deviations(values, labels) for labels in partitions if complies(labels))
    assert squared_deviations(values, labels) == pytest.approx(best, abs=1e-9)


def test_container_shares_of_an_idle_microservice_are_equal() -> None:
    hosts = np.array([0, 0, 1])
    assert container_shares(hosts, np.array([0.8, 0.2])) == pytest.approx([0.4, 0.4, 0.2])
    assert container_shares(hosts, np.zeros(2)) == pytest.approx(np.full(3, 1 / 3))
