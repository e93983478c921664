"""Every agent of `configs/agents/` controls the joint environment through stable-baselines3's `evaluate_policy`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import envs
from imbres_gym.agent import load_agent_config, make_agent
from imbres_gym.config import available

INTERVALS = 3
DURATION_S = 5.0 * (INTERVALS + 1)  # the first interval belongs to the reset


@pytest.mark.parametrize("name", available("agents"))
def test_agents_are_evaluated_like_trained_models(name: str) -> None:
    assert envs.__name__ == "envs"  # importing it registers the environments
    env = gym.make("imbres_gym/Cluster-v0", scenario="hotel-reservation/high-strict", duration=DURATION_S)
    illegal: list[int] = []

    class Watched(gym.Wrapper):
        def step(self, action):  # type: ignore[no-untyped-def]
            outcome = super().step(action)
            illegal.append(outcome[4]["illegal_actions"]["total"])
            return outcome

    inner: Any = env.unwrapped
    agent = make_agent(load_agent_config(name), inner.cluster_info, seed=1, scenario=inner.scenario)
    rewards, lengths = evaluate_policy(
        agent,  # type: ignore[arg-type]
        Monitor(Watched(env)),
        n_eval_episodes=1,
        return_episode_rewards=True,
    )
    assert lengths == [INTERVALS]
    assert isinstance(rewards, list) and np.all(np.isfinite(rewards))
    assert illegal == [0] * INTERVALS
    decision_ms = agent.decision_ms  # type: ignore[attr-defined]
    assert set(decision_ms) == {"load", "connections", "scaling", "total"}
    assert decision_ms["total"] >= max(decision_ms[tier] for tier in ("load", "connections", "scaling")) > 0.0
