"""The traffic from host to host is left out where it would have too many entries."""

from __future__ import annotations

import pytest

from envs.cluster import ClusterEnv
from imbres_gym import telemetry
from imbres_gym.telemetry import MAX_PAIR_SHARES, pair_share_shape


def test_the_largest_that_is_kept() -> None:
    assert pair_share_shape(MAX_PAIR_SHARES // 100, 10) == (MAX_PAIR_SHARES // 100, 10, 10)
    assert pair_share_shape(MAX_PAIR_SHARES // 100 + 1, 10) == (MAX_PAIR_SHARES // 100 + 1, 0, 0)
    assert pair_share_shape(3000, 4000) == (3000, 0, 0)


def test_a_large_cluster_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MAX_PAIR_SHARES", 1)
    env = ClusterEnv(scenario="social-network/high-strict", duration="10s")
    observation, _ = env.reset(seed=3000)
    assert observation["pair_share"].shape == (len(env.cluster_info.pairs), 0, 0)
    assert observation in env.observation_space
    env.action_space.seed(3000)
    observation, *_ = env.step(env.action_space.sample())
    assert observation in env.observation_space
