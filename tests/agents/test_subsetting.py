"""Subsets of downstream containers: how evenly they are used, and how little they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.connections.deterministic_subsetting import DeterministicSubsetting
from agents.connections.deterministic_subsetting import subset as deterministic
from agents.connections.rocksteadier import LOT, Rocksteadier, ring_walk, van_der_corput
from agents.connections.subsets import StableIndices
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.plan import balanced_proportions

POLICIES = [DeterministicSubsetting, Rocksteadier]
sizes = st.integers(1, 60)


def observe(up: list[int], down: list[int]) -> Observation:
    """Two microservices with these containers, by id, all on one host."""
    info = make_info(hosts=1)
    observation = make_observation(info, [[len(up)], [len(down)]])
    observation["containers"][: len(up) + len(down), 0] = [*up, *down]
    return observation


def picks(policy: Any, observation: Observation) -> set[tuple[int, int]]:
    """Links of the only pair, as (upstream, downstream) ids."""
    links = policy.connect(observation, balanced_proportions(observation["ready"])).links[0]
    assert np.allclose(np.bincount(links.upstream, links.weight)[np.unique(links.upstream)], 1.0)
    pairs = set(zip(links.upstream.tolist(), links.downstream.tolist(), strict=True))
    assert len(pairs) == len(links)
    return pairs


def fresh(kind: Callable[..., Any], k: int) -> Any:
    policy = kind(k=k)
    policy.reset(make_info(hosts=1), seed=0)
    return policy


def ids(n_up: int, n_down: int) -> tuple[list[int], list[int]]:
    return list(range(n_up)), list(range(1000, 1000 + n_down))


def callers(pairs: set[tuple[int, int]], down: list[int]) -> list[int]:
    """Number of clients of each downstream container."""
    return [sum(d == container for _, d in pairs) for container in down]


@pytest.mark.parametrize("kind", POLICIES)
@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(1, 15))
def test_everyone_gets_a_subset_of_the_size_asked_for(kind: Any, n_up: int, n_down: int, k: int) -> None:
    up, down = ids(n_up, n_down)
    pairs = picks(fresh(kind, k), observe(up, down))
    assert [sum(u == container for u, _ in pairs) for container in up] == [min(k, n_down)] * n_up


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(1, 15))
def test_deterministic_subsets_are_balanced_round_by_round(n_up: int, n_down: int, k: int) -> None:
    """A full round serves every container but the n mod k left out once; so numbers differ by the rounds' leftovers."""
    up, down = ids(n_up, n_down)
    counts = callers(picks(fresh(DeterministicSubsetting, k), observe(up, down)), down)
    rounds = -(-n_up // max(1, n_down // k))
    # In r rounds the leftovers wander over r (n mod k) places of the ring of n: each is left out this often, or once
    # more; the last round may be incomplete.
    assert max(counts) - min(counts) <= 2
    assert max(counts) <= rounds


def test_the_leftovers_rule() -> None:
    """11 containers, subsets of 4: two clients a round, which leaves out three: 0-2, then 3-5, 6-8, and 9, 10, 0."""
    for turn, left_out in enumerate([{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 0}]):
        one, other = (set(deterministic(2 * turn + place, 11, 4).tolist()) for place in (0, 1))
        assert not one & other
        assert set(range(11)) - one - other == left_out


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 12))
def test_rocksteadier_balances_full_lots(up_lots: int, down_lots: int, k: int) -> None:
    """Each upstream lot takes different containers of a downstream lot: every container gets its share or one more.

    Where k is no multiple of the lots, the rest of the walks is spread over the ring, one or two per upstream lot.
    """
    up, down = ids(LOT * up_lots, LOT * down_lots)
    k = min(k, len(down))
    counts = callers(picks(fresh(Rocksteadier, k), observe(up, down)), down)
    mean = len(up) * k / len(down)
    assert max(counts) <= np.ceil(mean) + up_lots
    assert min(counts) >= np.floor(mean) - up_lots
    if k % down_lots == 0:
        assert counts == [int(mean)] * len(down)


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize(("n_up", "n_down", "share"), [(30, 40, 0.5), (25, 33, 1.0), (50, 27, 1.0)])
def test_subsets_are_more_even_than_random_ones(kind: Any, n_up: int, n_down: int, share: float) -> None:
    """The numbers of clients have less spread than those of random picks; with full lots, less than half of it.

    Random picks of k of n by m clients are binomial: their coefficient of variation is sqrt((1 - k / n) n / (k m)).
    """
    up, down = ids(n_up, n_down)
    counts = np.array(callers(picks(fresh(kind, 10), observe(up, down)), down))
    random = np.sqrt((1.0 - 10 / n_down) * n_down / (10 * n_up))
    assert counts.std() / counts.mean() < share * random


def churn(kind: Any, before: tuple[list[int], list[int]], after: tuple[list[int], list[int]]) -> int:
    """Links that are opened and closed, without those of containers that come or go."""
    policy = fresh(kind, 10)
    old, new = picks(policy, observe(*before)), picks(policy, observe(*after))
    stay = [set(one) & set(other) for one, other in zip(before, after, strict=True)]
    return sum(u in stay[0] for u, _ in old ^ new)


def test_rocksteadier_changes_little_when_one_comes_or_goes() -> None:
    """At most two links of each client that had it, or takes it; deterministic subsets are dealt anew."""
    up, down = ids(30, 40)
    gone = [container for container in down if container != 1017]
    clients = 30 * 10 / 40
    for before, after in ((down, gone), (gone, down), (down, [*down, 2000])):
        assert 0 < churn(Rocksteadier, (up, before), (up, after)) <= 2 * (clients + 3)
        assert churn(DeterministicSubsetting, (up, before), (up, after)) > 30 * 10 / 2
    for kind in POLICIES:
        assert churn(kind, (up, down), ([*up, 500], down)) == 0
        assert churn(kind, (up, down), (up[:4] + up[5:], down)) == 0


def test_indices_stay_and_free_ones_are_taken() -> None:
    indices = StableIndices()
    assert indices.update([7, 9, 4]) == {7: 0, 9: 1, 4: 2}
    assert indices.update([9, 4]) == {9: 1, 4: 2}
    assert indices.update([4, 9, 20, 21]) == {9: 1, 4: 2, 20: 0, 21: 3}


def test_ringsteady() -> None:
    """The van der Corput sequence mirrors the bits; lots are walked upwards from the start, around the ring."""
    assert [van_der_corput(index) for index in range(6)] == [0.0, 0.5, 0.25, 0.75, 0.125, 0.625]
    # On the ring of five: 0 at 0, 4 at 1/8, 2 at 1/4, 1 at 1/2, 3 at 3/4.
    assert ring_walk(0.0, 5) == (0, 4, 2, 1, 3)
    assert ring_walk(0.3, 5) == (1, 3, 0, 4, 2)


@pytest.mark.parametrize("kind", POLICIES)
def test_a_wrong_size_is_named(kind: Any) -> None:
    with pytest.raises(ConfigError, match="k: 0 must be at least 1"):
        kind(k=0)
