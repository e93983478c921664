"""The scale benchmark at a tiny size: its cluster looks like one, and it measures what it says."""

from __future__ import annotations

import numpy as np
import pytest

from envs.spaces import observation_space
from scripts.benchmark_scale import FRACTIONS, exponent, measure_decision, measure_tick
from scripts.scale_cluster import MadeUpCluster, Size

TINY = Size(hosts=6, microservices=4, containers=60, pairs=5, budget=2)


def test_the_cluster_is_as_large_as_asked_for() -> None:
    cluster = MadeUpCluster(TINY, seed=2000)
    observation = cluster.observe(5.0)
    assert observation in observation_space(cluster.info, horizon_s=60.0)
    assert observation["ready"].shape == (4, 6)
    assert observation["ready"].sum() == 60
    assert len(set(cluster.info.pairs)) == 5
    assert all(up < down for up, down in cluster.info.pairs)
    # A pair needs at least as many connections as the larger side has containers.
    counts = cluster.info.initial_replicas
    result = measure_decision(TINY, decisions=1)
    assert result["connections"] >= sum(max(counts[up], counts[down]) for up, down in cluster.info.pairs)


def test_a_measurement() -> None:
    result = measure_decision(TINY, decisions=1)
    # An SLA missed by a factor of two: dP = 0.2 (1 - 2) P / 2 = -0.1 P, so 60 / 0.9 = 66.7 containers.
    assert result["added_containers"] == 7
    assert 0.0 < result["decision_s"] < 60.0
    assert 0.5 < sum(result["decision_share"].values()) <= 1.0
    assert result["peak_memory_gb"] > 0.0


def test_a_tick() -> None:
    result = measure_tick(TINY, ticks=1)
    assert result["requests"] > 0 and result["request_classes"] > 0
    assert 0.0 < result["apply_s"] < 60.0
    assert 0.0 < result["tick_s"] < result["reset_s"] < 120.0
    assert result["peak_memory_gb"] > 0.0


def test_the_exponent_of_a_power_law() -> None:
    line = [{"time": 3.0 * fraction**1.5} for fraction in FRACTIONS]
    assert exponent(line, "time") == pytest.approx(1.5)
    assert np.isclose(exponent([{"time": 2.0}] * len(FRACTIONS), "time"), 0.0)
