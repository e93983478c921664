"""Environments for stable-baselines3: a flat, normalised observation, and one flat action space.

env = make_learning_env("imbres_gym/Scaling-v0", "social-network/high-strict")
stable_baselines3.PPO("MlpPolicy", env).learn(10_000)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

import envs
from envs.base import MicroserviceEnv
from envs.flat_actions import FlatAction, FlatCluster, FlatConnections, FlatProportions, FlatReplicas
from imbres_gym.config import ConfigError, nearest
from imbres_gym.observation import Observation
from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import ClusterInfo

FLAT_ACTIONS: dict[str, type[FlatAction]] = {
    "imbres_gym/LoadShifting-v0": FlatProportions,
    "imbres_gym/Connections-v0": FlatConnections,
    "imbres_gym/Scaling-v0": FlatReplicas,
    "imbres_gym/Cluster-v0": FlatCluster,
}
"""Environment id -> its flat action."""

RATE_SCALE = 1e6
"""Rate or count that becomes 1 in a flat observation; smaller ones are on a logarithmic scale up to it."""

LATENCIES = ("own_latency_ms", "own_p95_ms", "microservice_p95_ms", "e2e_ms", "window_p95_ms")
RATES = ("load_rps", "samples", "requests", "failed", "workload_rps", "connections")
SHARES = ("cpu_utilisation", "interference", "proportions", "pair_share")
REPLICAS = ("ready", "pending", "wanted")


def make_learning_env(
    env_id: str, scenario: str | Path | Scenario = "social-network/high-strict", **kwargs: Any
) -> gym.Env[NDArray[np.float32], Any]:
    """One of the environments with a flat observation and a flat action.

    Args:
        env_id: one of `envs.ENVIRONMENTS`.
        scenario: name, path or `Scenario`.
        kwargs: further arguments of the environment.

    Raises:
        ConfigError: an unknown id (says the nearest), or a wrong scenario or argument.
    """
    if env_id not in FLAT_ACTIONS:
        raise ConfigError(f"there is no environment {env_id!r}; {nearest(env_id, envs.ENVIRONMENTS)}")
    return FlatObservation(FLAT_ACTIONS[env_id](gym.make(env_id, scenario=scenario, **kwargs)))


class FlatObservation(gym.ObservationWrapper[NDArray[np.float32], Any, Observation]):
    """The observation as one `Box(0, 1, (n,), float32)`; see `flatten_observation`."""

    def __init__(self, env: gym.Env[Observation, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        keys = (*LATENCIES, *RATES, *SHARES, *REPLICAS, "age_s")
        size = 1 + sum(int(np.prod(env.observation_space[key].shape or ())) for key in keys)
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)

    def observation(self, observation: Observation) -> NDArray[np.float32]:
        """(n,) float32 in [0, 1]."""
        env = self.unwrapped
        assert isinstance(env, MicroserviceEnv)
        return flatten_observation(observation, env.cluster_info)


def flatten_observation(observation: Observation, info: ClusterInfo) -> NDArray[np.float32]:
    """An observation as one vector (n,) float32 in [0, 1].

    In this order, with x a value as `imbres_gym.observation` lists it:

    - latencies: x / (x + SLA);
    - rates, samples, requests and connections: log(1 + x) / log(1 + `RATE_SCALE`), at most 1;
    - utilisations, proportions and shares: x, at most 1;
    - replica counts: x / (x + initial replicas);
    - age of measurements: x / (x + scaling interval);
    - the share of the scaling interval that has passed.

    The container table is left out: its rows change their meaning as containers come and go, and the arrays per
    microservice and host sum it up.
    """
    parts = [_saturate(observation[key], info.sla_ms) for key in LATENCIES]
    parts += [np.minimum(np.log1p(observation[key]) / np.log1p(RATE_SCALE), 1.0) for key in RATES]
    parts += [np.minimum(observation[key], 1.0) for key in SHARES]
    initial = info.initial_replicas
    parts += [
        _saturate(observation[key], initial[:, None] if observation[key].ndim == 2 else initial) for key in REPLICAS
    ]
    parts.append(_saturate(observation["age_s"], info.scaling_interval_s))
    parts.append(np.mod(observation["time_s"], info.scaling_interval_s) / info.scaling_interval_s)
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)


def _saturate(values: NDArray[Any], scale: Any) -> NDArray[np.float64]:
    """Map [0, infinity) to [0, 1): x / (x + scale)."""
    real = values.astype(np.float64)
    return np.asarray(real / (real + scale))
