"""Targets of GrandSLAm and Rhythm worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agents.scaling.grandslam import mean_weights
from agents.scaling.latency_targets import OfflineStatistics, weighted_targets
from agents.scaling.rhythm import contributions
from imbres_gym.profiling.graph import CallNode

WEIGHTS = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 2.0}


def tree(store_ms: float = 0.0) -> CallNode:
    """A calls b and c at the same time, then d twice."""
    parallel = (CallNode(microservice="b"), CallNode(microservice="c"))
    return CallNode(microservice="a", store_ms=store_ms, stages=(parallel, (CallNode(microservice="d", repeat=2),)))


def test_targets_are_the_smallest_over_the_paths() -> None:
    # a, c, d, d weigh 1 + 3 + 4 = 8: 7 ms a unit of 56 ms. b is on a path of 7 units only: 8 ms a unit.
    assert weighted_targets(tree(), WEIGHTS, 56.0) == pytest.approx({"a": 7.0, "b": 16.0, "c": 21.0, "d": 14.0})


def test_time_in_stores_is_taken_off_the_sla() -> None:
    assert weighted_targets(tree(store_ms=10.0), WEIGHTS, 66.0) == weighted_targets(tree(), WEIGHTS, 56.0)


def test_repeated_subtrees_count_every_time() -> None:
    # Three times a (1), then b (2) or c (3): 3 * 4 = 12 units; with b 9 units.
    parallel = (CallNode(microservice="b"), CallNode(microservice="c"))
    thrice = CallNode(microservice="a", repeat=3, stages=(parallel,))
    assert weighted_targets(thrice, WEIGHTS, 36.0) == pytest.approx({"a": 3.0, "b": 8.0, "c": 9.0})


MEAN_MS = np.array([[1.0, 4.0, 3.0], [2.0, 4.0, 2.0], [3.0, 4.0, 1.0]])
TAIL_MS = np.array([10.0, 20.0, 30.0])


def test_grandslam_weighs_by_mean_latency() -> None:
    assert mean_weights(OfflineStatistics(MEAN_MS, TAIL_MS)).tolist() == [2.0, 4.0, 2.0]


def test_rhythm_weighs_by_contribution() -> None:
    # P = 2/8, 4/8, 2/8; V = sqrt(2 / (3 * 2)) / 2, 0, the same; rho = 1, none, -1 (at least 0.01).
    variation = math.sqrt(2.0 / 6.0) / 2.0
    expected = [0.25 * variation, 0.0, 0.25 * variation * 0.01]
    assert contributions(MEAN_MS, TAIL_MS) == pytest.approx(expected, abs=1e-9)
