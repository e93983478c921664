"""Environments for stable-baselines3: a flat, normalised observation, and one flat action space.

env = make_learning_env("imbres_gym/Scaling-v0", "social-network/high-strict")
stable_baselines3.PPO("MlpPolicy", env).learn(10_000)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

import envs
from envs.base import MicroserviceEnv
from envs.flat_actions import FlatAction, FlatCluster, FlatConnections, FlatProportions, FlatReplicas, FlatTargets
from imbres_gym.config import ConfigError, nearest
from imbres_gym.flat import FLAT_KEYS, flatten_observation
from imbres_gym.observation import Observation
from imbres_gym.scenario import Scenario

FLAT_ACTIONS: dict[str, type[FlatAction]] = {
    "imbres_gym/LoadShifting-v0": FlatProportions,
    "imbres_gym/Connections-v0": FlatConnections,
    "imbres_gym/Scaling-v0": FlatReplicas,
    "imbres_gym/Cluster-v0": FlatCluster,
}
"""Environment id -> its flat action."""


def make_learning_env(
    env_id: str,
    scenario: str | Path | Scenario = "social-network/high-strict",
    *,
    keys: Sequence[str] = FLAT_KEYS,
    targets: bool = False,
    **kwargs: Any,
) -> gym.Env[NDArray[np.float32], Any]:
    """One of the environments with a flat observation and a flat action.

    Args:
        env_id: one of `envs.ENVIRONMENTS`.
        scenario: name, path or `Scenario`.
        keys: what the flat observation holds, in this order.
        targets: the scaling environment takes target utilisations (`FlatTargets`), not steps (`FlatReplicas`).
        kwargs: further arguments of the environment.

    Raises:
        ConfigError: an unknown id or key (says the nearest), or a wrong scenario or argument.
    """
    if env_id not in FLAT_ACTIONS:
        raise ConfigError(f"there is no environment {env_id!r}; {nearest(env_id, envs.ENVIRONMENTS)}")
    if targets and FLAT_ACTIONS[env_id] is not FlatReplicas:
        raise ConfigError(f"targets: only the scaling environment takes target utilisations, not {env_id!r}")
    flat_action = FlatTargets if targets else FLAT_ACTIONS[env_id]
    return FlatObservation(flat_action(gym.make(env_id, scenario=scenario, **kwargs)), keys)


class FlatObservation(gym.ObservationWrapper[NDArray[np.float32], Any, Observation]):
    """The observation as one `Box(0, 1, (n,), float32)`; see `imbres_gym.flat.flatten_observation`.

    Args:
        env: one of the environments here.
        keys: some of `imbres_gym.flat.FLAT_KEYS`, in the order of the vector.

    Raises:
        ConfigError: an unknown key; says the nearest.
    """

    def __init__(self, env: gym.Env[Observation, Any], keys: Sequence[str] = FLAT_KEYS) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        if isinstance(keys, str):
            raise ConfigError(f"keys: {keys!r} must be a list of keys: [{keys!r}]")
        for key in keys:
            if key not in FLAT_KEYS:
                raise ConfigError(f"keys: unknown key {key!r} of the observation; {nearest(key, FLAT_KEYS)}")
        self._keys: tuple[str, ...] = tuple(keys)
        shapes = [(1,) if key == "phase" else env.observation_space[key].shape or () for key in keys]
        size = sum(int(np.prod(shape)) for shape in shapes)
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)

    def observation(self, observation: Observation) -> NDArray[np.float32]:
        """(n,) float32 in [0, 1]."""
        env = self.unwrapped
        assert isinstance(env, MicroserviceEnv)
        return flatten_observation(observation, env.cluster_info, self._keys)
