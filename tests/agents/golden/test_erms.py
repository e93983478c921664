"""Erms worked by hand: latency targets, choice of pieces, shared microservices, placement."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agents.scaling.erms.fit import Line, Pieces
from agents.scaling.erms.merge import Virtual, merge, split
from agents.scaling.erms.placement import place_evenly
from agents.scaling.erms.priorities import (
    ClassLoad,
    Fleet,
    containers_prioritised,
    containers_shared,
    priority_order,
)
from agents.scaling.erms.targets import Service, latency_targets
from imbres_gym.profiling.graph import CallNode


def line(a: float, b: float) -> Pieces:
    """A model without a knee."""
    return Pieces(Line(a, b), Line(a, b), sigma=1e9, largest=math.inf)


def node(name: str, *stages: tuple[CallNode, ...], repeat: int = 1, store_ms: float = 0.0) -> CallNode:
    return CallNode(microservice=name, stages=stages, repeat=repeat, store_ms=store_ms)


def test_chain() -> None:
    # sqrt(1 * 100) = 10 and sqrt(4 * 100) = 20 share the 35 - 2 - 3 = 30 ms above the intercepts: 10 and 20 ms.
    tree = node("a", (node("b"),))
    services = {"a": Service(line(1.0, 2.0), 100.0, 1.0), "b": Service(line(4.0, 3.0), 100.0, 1.0)}
    targets = latency_targets(tree, services, 35.0)
    assert targets == pytest.approx({"a": 12.0, "b": 23.0})
    # n = 1 * 100 / 10 and 4 * 100 / 20.
    assert {name: services[name].containers(target) for name, target in targets.items()} == {"a": 10, "b": 20}


def test_larger_containers_get_more_of_the_budget() -> None:
    # b's containers cost four times as much: strengths 10 and 20, as above, with the same slope.
    services = {"a": Service(line(1.0, 2.0), 100.0, 1.0), "b": Service(line(1.0, 3.0), 100.0, 4.0)}
    assert latency_targets(node("a", (node("b"),)), services, 35.0) == pytest.approx({"a": 12.0, "b": 23.0})


def test_parallel_calls_share_one_target() -> None:
    # b and c: sqrt(6^2 + 8^2) = 10, intercept max(1, 3) = 3. With a (10, 2): (45 - 5) / 2 = 20 ms for each.
    services = {"a": Virtual(10.0, 2.0), "b": Virtual(6.0, 1.0), "c": Virtual(8.0, 3.0)}
    merged = merge(node("a", (node("b"), node("c"))), services)
    assert merged.total == Virtual(20.0, 5.0)
    assert dict(split(merged, 45.0)) == pytest.approx({"a": 22.0, "b": 23.0, "c": 23.0})


def test_repeated_calls_and_stores() -> None:
    # Four calls of b: strength 2 * 10, intercept 4 * 1; 5 ms in stores. (41 - 2 - 4 - 5) = 30: 10 for a, 20 for b,
    # which is (4 + 20) / 4 = 6 a call: 12 + 5 + 4 * 6 = 41.
    services = {"a": Virtual(10.0, 2.0), "b": Virtual(10.0, 1.0)}
    tree = node("a", (node("b", repeat=4),), store_ms=5.0)
    assert dict(split(merge(tree, services), 41.0)) == pytest.approx({"a": 12.0, "b": 6.0})


# The lines cross at (-56 - 1) / (0.1 - 2) = 30 requests/s and 4 ms.
KNEE = Pieces(Line(0.1, 1.0), Line(2.0, -56.0), sigma=30.0, largest=40.0)


@pytest.mark.parametrize(
    ("sla_ms", "load"),
    [
        (10.0, 33.0),  # after the knee: (10 + 56) / 2
        (3.0, 20.0),  # after the knee it would be 29.5 <= 30, so before it: (3 - 1) / 0.1
        (0.5, 30.0),  # below the intercept: no load meets it, the knee
        (500.0, 40.0),  # never more than was profiled
    ],
)
def test_pieces(sla_ms: float, load: float) -> None:
    service = Service(KNEE, 10.0 * load, 1.0)
    target = latency_targets(node("a"), {"a": service}, sla_ms)["a"]
    assert target == pytest.approx(sla_ms)
    assert service.pieces.load_at(target) == pytest.approx(load)
    assert service.containers(target) == 10


def test_a_target_below_the_intercept_moves_to_the_piece_before_the_knee() -> None:
    # After the knee: b has an intercept of -56, its target is what a leaves: strength sqrt(2 * 50) = 10 and
    # sqrt(0.01 * 100) = 1 share 20 - 3 + 56 = 73 ms: b -56 + 73 * 10 / 11 = 10.4, a 3 + 6.6 = 9.6.
    services = {"a": Service(line(0.01, 3.0), 100.0, 1.0), "b": Service(KNEE, 50.0, 1.0)}
    tree = node("a", (node("b"),))
    assert latency_targets(tree, services, 20.0) == pytest.approx({"a": 3.0 + 73.0 / 11.0, "b": -56.0 + 730.0 / 11.0})
    # 5 ms: b would get -56 + 58 * 10 / 11 < 0, so both are before the knee: sqrt(0.1 * 50) = 2.236 and 1 share 1 ms.
    share = math.sqrt(5.0) / (1.0 + math.sqrt(5.0))
    assert latency_targets(tree, services, 5.0) == pytest.approx({"a": 4.0 - share, "b": 1.0 + share})


# Class 0 calls s; class 1 calls s and then p; 100 calls/s each, slope 1, SLA 10 ms.
CLASSES = [
    ClassLoad(node("s"), {"s": 100.0}),
    ClassLoad(node("s", (node("p"),)), {"s": 100.0, "p": 100.0}),
]
FLEET = Fleet({"s": line(1.0, 0.0), "p": line(1.0, 0.0)}, {"s": 1.0, "p": 1.0}, 10.0)


def test_first_come_first_served() -> None:
    # At its own 100 calls/s each, class 1 splits 10 ms in halves. 5 ms is the lowest target of s, which has 200 calls/s
    # of both classes together: 200 / 5 = 40; 100 / 5 = 20.
    assert containers_shared(CLASSES, FLEET) == {"s": 40, "p": 20}


def test_priorities() -> None:
    # Alone, class 0 has a target of 10 ms at s and class 1 of 5 ms: class 1 is served first, and sees 100 calls/s:
    # 5 ms each, 20 containers each. Class 0 sees 200: 200 / 10 = 20.
    assert priority_order(CLASSES, FLEET) == {"s": [1, 0], "p": [1]}
    assert containers_prioritised(CLASSES, FLEET) == {"s": 20, "p": 20}


def test_calls_too_rare_for_the_tree_get_containers_at_the_knee() -> None:
    # q is in no tree; 61 / 30 of its containers would stay at the knee.
    rare = [ClassLoad(node("s"), {"s": 100.0, "q": 61.0})]
    fleet = Fleet({**FLEET.pieces, "q": KNEE}, {**FLEET.resource, "q": 1.0}, 10.0)
    assert containers_shared(rare, fleet)["q"] == 3
    assert containers_prioritised(rare, fleet)["q"] == 3


def test_placement_fills_the_least_utilised_host() -> None:
    # 10 cores a host, each container uses 1 core = 0.1: from 0.1 and 0.35, three go to the first host until it has
    # 0.4, then they alternate: 0.45, 0.5.
    placed = place_evenly(np.array([5]), np.array([1.0]), np.array([1.0]), np.array([0.1, 0.35]), 10.0)
    assert placed.tolist() == [[4, 1]]


def test_placement_keeps_a_tenth_of_a_host_free() -> None:
    # 9 of 10 cores may be requested: 4 containers of 2 cores on each; the ninth finds no room.
    placed = place_evenly(np.array([9]), np.array([0.1]), np.array([2.0]), np.array([0.0, 0.9]), 10.0)
    assert placed.tolist() == [[4, 4]]
