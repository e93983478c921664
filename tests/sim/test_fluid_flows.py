"""Flows of the fluid engine: the same links, loads and churn as the event engine's routing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imbres_gym.plan import ConnectionPlan, Links
from imbres_gym.sim.fluid.fleet import (
    Fleet,
    Rows,
    changed_connections,
    connect,
    muster,
    open_connections,
    shares_between_hosts,
)
from imbres_gym.sim.routing import Routing, build_routing, count_ready
from imbres_gym.sim.state import DRAINING, PENDING, READY, SLOT

PAIRS = ((0, 1), (0, 2), (1, 2))
UP, DOWN = np.array([0, 0, 1]), np.array([1, 2, 2])
MICROSERVICES, HOSTS = 3, 2
KINDS = np.arange(3)  # one kind for each microservice


def containers(lives: list[int]) -> NDArray[np.void]:
    """Twelve containers, microservice and host in turn."""
    slots = np.zeros(16, SLOT)
    slots["id"][:12] = np.arange(12)
    slots["microservice"][:12] = np.arange(12) % MICROSERVICES
    slots["host"][:12] = np.arange(12) // 3 % HOSTS
    slots["life"][:12] = lives
    return slots


@st.composite
def plans(draw: st.DrawFn) -> ConnectionPlan:
    """Random links, some of them twice, some between containers that are not there."""
    links = {}
    for p, (up, down) in enumerate(PAIRS):
        if draw(st.booleans()):
            size = draw(st.integers(0, 10))
            ids = st.lists(st.integers(0, 4), min_size=size, max_size=size)
            weight = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=size, max_size=size))
            edges = np.unique(np.array([draw(ids), draw(ids)], np.int64).T.reshape(size, 2), axis=0)
            weights = np.array(weight[: len(edges)], np.float64)
            links[p] = Links(edges[:, 0] * 3 + up, edges[:, 1] * 3 + down, weights)
    return ConnectionPlan(links)


LIVES = st.lists(st.sampled_from([READY, READY, READY, DRAINING, PENDING]), min_size=12, max_size=12)


def both(lives: list[int], plan: ConnectionPlan) -> tuple[Routing, Fleet, Rows, NDArray[np.float64]]:
    """The event engine's routing and the fluid engine's rows of one state of affairs, under uneven proportions."""
    slots = containers(lives)
    ready = count_ready(slots, (MICROSERVICES, HOSTS))
    weight = np.where(ready > 0, np.array([1.0, 3.0]), 0.0)
    total = weight.sum(axis=1, keepdims=True)
    proportions = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0.0)
    fleet = muster(slots, (MICROSERVICES, HOSTS), KINDS, np.arange(4))
    each = np.divide(proportions, ready, out=np.zeros_like(weight), where=ready > 0)
    pool_weight = each[fleet.microservice, fleet.host]
    return build_routing(slots, PAIRS, proportions, ready, plan), fleet, connect(fleet, UP, DOWN, plan), pool_weight


@settings(max_examples=150, deadline=None)
@given(LIVES, plans())
def test_links_are_those_of_the_event_engine(lives: list[int], plan: ConnectionPlan) -> None:
    """Open connections, their number at each container, and the traffic from host to host."""
    routing, fleet, rows, pool_weight = both(lives, plan)
    connections, degree = open_connections(fleet, rows, UP, DOWN)
    assert connections.tolist() == routing.connections.tolist()
    np.testing.assert_allclose(degree, routing.per_slot[fleet.slot])
    share = np.zeros((len(PAIRS), HOSTS, HOSTS))
    shares_between_hosts(fleet, rows, UP, DOWN, pool_weight, share)
    np.testing.assert_allclose(share, routing.pair_share, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(LIVES, plans(), LIVES, plans())
def test_churn_is_that_of_the_event_engine(
    lives: list[int], plan: ConnectionPlan, later: list[int], other: ConnectionPlan
) -> None:
    """Links that one state has and the other has not."""
    before, old, old_rows, _ = both(lives, plan)
    after, new, new_rows, _ = both(later, other)
    expected = np.setxor1d(before.links, after.links).size
    assert changed_connections(old, old_rows, new, new_rows, UP, DOWN) == expected
    assert changed_connections(old, old_rows, old, old_rows, UP, DOWN) == 0
