from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from small_runs import ALGORITHMS, OPTIONS, small_recipe, small_scenario
from stable_baselines3.common.vec_env import DummyVecEnv

from imbres_gym.config import ConfigError, available
from imbres_gym.policy import load_object
from imbres_gym.training.environments import MakeEnvironment
from imbres_gym.training.export import make_network
from imbres_gym.training.learner import Learner, is_finite
from imbres_gym.training.recipe import OwnTrainer, load_recipe
from imbres_gym.training.seeds import FIRST_EPISODE_SEED, TrainingEpisodes, segment_seed

LONGER: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 40, "batch_size": 40, "learning_rate": 0.005, "gamma": 0},
    "SAC": {"learning_starts": 0, "batch_size": 64, "learning_rate": 0.003, "ent_coef": 0.01, "gamma": 0},
    "DDPG": {"learning_starts": 0, "batch_size": 64, "learning_rate": 0.003, "gradient_steps": 2, "gamma": 0},
}


class Target(gym.Env[Any, Any]):
    """The best action is 0.4 and -0.4, whatever is seen; the reward has a large constant in it."""

    observation_space = spaces.Box(0.0, 1.0, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._left = 20
        return self._see(), {}

    def step(self, action: Any) -> Any:
        self._left -= 1
        reward = -50.0 - float(np.sum((action - np.array([0.4, -0.4])) ** 2))
        return self._see(), reward, False, self._left == 0, {"metrics": {"x": 1.0}, "reward_parts": {"y": 2.0}}

    def _see(self) -> Any:
        return self.np_random.random(3, np.float32)


def ignore(steps: int) -> None:
    pass


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_finds_a_target_from_action_zero(algorithm: str) -> None:
    options = {**LONGER[algorithm], **({} if algorithm == "PPO" else {"buffer_size": 2000})}
    activation = "tanh" if algorithm == "PPO" else "relu"
    recipe = small_recipe(
        algorithm, segment_steps=800, layers=[32], activation=activation, hyperparameters=options, noise=0.2
    )
    environments = DummyVecEnv([Target] * 2)
    learner = Learner(recipe, environments, 1, {})
    inputs = np.full((1, 3), 0.5, np.float32)
    assert np.abs(make_network(recipe, learner.state()).forward(inputs)).max() < 0.05
    means = learner.learn(800 if algorithm == "DDPG" else 1600, ignore)
    missed = make_network(recipe, learner.state()).forward(inputs)[0] - [0.4, -0.4]
    assert np.linalg.norm(missed) < 0.25  # from 0.57
    assert means["metrics/x"] == 1.0 and means["reward/y"] == 2.0
    assert any(name.startswith("loss/") for name in means)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_exported_network_is_the_deterministic_policy(algorithm: str) -> None:
    recipe = small_recipe(algorithm, layers=[8, 6])
    learner = Learner(recipe, DummyVecEnv([Target] * 2), 1, {})
    learner.learn(20, ignore)
    inputs = np.random.default_rng(2).random((30, 3), np.float32)
    expected, _ = learner._model.predict(learner._normalised.normalize_obs(inputs), deterministic=True)
    ours = np.clip(make_network(recipe, learner.state()).forward(inputs), -1.0, 1.0)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_a_policy_that_is_not_finite_is_noticed() -> None:
    learner = Learner(small_recipe("PPO"), DummyVecEnv([Target] * 2), 1, {})
    state = learner.state()
    assert is_finite(state)
    state["parameters"]["policy"]["action_net.bias"][0] = float("nan")
    assert not is_finite(state)


def test_a_wrong_hyperparameter_is_named() -> None:
    environments = DummyVecEnv([Target] * 2)
    with pytest.raises(
        ConfigError, match=r"hyperparameters.learning_rat: unknown to SAC; did you mean 'learning_rate'"
    ):
        Learner(small_recipe("SAC", hyperparameters={"learning_rat": 1}), environments, 1, {})
    with pytest.raises(ConfigError, match="recipe 'small': hyperparameters: SAC refuses"):
        Learner(small_recipe("SAC", hyperparameters={"buffer_size": "large"}), environments, 1, {})


@given(st.integers(3000, 3999), st.integers(0, 10_000))
def test_no_training_episode_has_a_seed_of_an_evaluation(seed: int, segment: int) -> None:
    assert FIRST_EPISODE_SEED <= segment_seed(seed, segment) < 2**31 - 2**16


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [("PPO", {"n_steps": 5}), ("SAC", {"train_freq": 5}), ("DDPG", {"train_freq": 5}), ("DDPG", {"n_steps": 3})],
)
def test_a_segment_is_as_long_as_the_recipe_says(algorithm: str, options: dict[str, Any]) -> None:
    recipe = small_recipe(algorithm, hyperparameters={**OPTIONS[algorithm], **options})
    learner = Learner(recipe, DummyVecEnv([Target] * 2), 1, {})
    learner.learn(recipe.segment_steps, ignore)
    assert learner.state()["steps"] == recipe.segment_steps


def test_training_episodes_differ_and_repeat_with_the_seed() -> None:
    class Remember(gym.Env[Any, Any]):
        seeds: list[int]

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            assert seed is not None
            self.seeds.append(seed)
            return 0, {}

    inner = Remember()
    inner.seeds = []
    env = TrainingEpisodes(inner)
    env.reset(seed=5)
    env.reset()
    env.reset(seed=5)
    first, second, again = inner.seeds
    assert first == again != second
    assert min(inner.seeds) >= FIRST_EPISODE_SEED


@pytest.mark.parametrize("name", available("training"))
def test_a_shipped_recipe_makes_an_environment_and_a_learner(name: str) -> None:
    recipe = load_recipe(name)
    if isinstance(recipe, OwnTrainer):
        assert callable(load_object(recipe.trainer)) and recipe.name == name
        return
    make: Any = MakeEnvironment(recipe, small_scenario(), training=True)
    assert recipe.name == name
    Learner(recipe, DummyVecEnv([make] * recipe.environments), 1, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment_steps": 12}, r"segment_steps: 12 is no multiple of 10 \(environments x hyperparameters.n_steps\)"),
        ({"hyperparameters": {"batch_size": 5}}, r"hyperparameters.n_steps: must be a whole number .*\(missing\)"),
        ({"hyperparameters": {"n_steps": 0}}, r"hyperparameters.n_steps: must be a whole number of at least 1.*got 0"),
        ({"hyperparameters": {"n_steps": "five"}}, r"hyperparameters.n_steps: must be .*got 'five'"),
        ({"algorithm": "SAC", "hyperparameters": {"train_freq": 3}}, r"10 is no multiple of 6 .*train_freq"),
        (
            {"algorithm": "DDPG", "hyperparameters": {"train_freq": [1, "episode"]}},
            r"train_freq: must be .*got \[1, 'episode'\]",
        ),
        (
            {"observation": ["interferences"]},
            r"observation.0: unknown key 'interferences'; did you mean 'interference'",
        ),
        ({"algorithm": "A2C"}, r"algorithm: Input should be 'PPO', 'SAC' or 'DDPG'"),
        ({"layer": [3]}, r"layer: unknown key; did you mean 'layers'"),
    ],
)
def test_a_wrong_recipe_says_what_would_be_right(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**small_recipe("PPO").model_dump(mode="json"), **changes}))
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(path))
