"""Actions of learned agents: one Box in [-1, 1] or one MultiDiscrete, as stable-baselines3 wants them.

An action of the wrong shape or type goes on as None, which the environment ignores and counts as illegal. A NaN in an
action counts as 0, the neutral value, and what lies outside [-1, 1] is cut off.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.spaces import GraphInstance
from numpy.typing import NDArray

from envs.affinity import expand_affinity
from envs.base import MicroserviceEnv
from imbres_gym.action import encode_connections
from imbres_gym.config import ConfigError
from imbres_gym.flat import proportions_of, replicas_at_targets
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo


class FlatAction(gym.ActionWrapper[Any, Any, Any]):
    """Base of the wrappers here: knows the environment whose last observation gives an action its meaning."""

    @property
    def _info(self) -> ClusterInfo:
        return self._microservices.cluster_info

    @property
    def _observation(self) -> Observation:
        return self._microservices.observation_in_place

    @property
    def _microservices(self) -> MicroserviceEnv:
        env = self.unwrapped
        assert isinstance(env, MicroserviceEnv)
        return env


class FlatProportions(FlatAction):
    """Load proportions from a `Box(-1, 1, (M * H,), float32)`.

    0 everywhere is balanced load, -1 takes all load from a host, and 1 doubles its weight; see
    `imbres_gym.flat.proportions_of`.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.action_space = _symmetric_box(len(self._info.microservices) * len(self._info.hosts))

    def action(self, action: Any) -> NDArray[np.float32] | None:
        """(M, H) float32 load proportions."""
        values = _values(action, self.action_space)
        return None if values is None else proportions_of(values, self._observation)


class FlatConnections(FlatAction):
    """A connection plan from a `Box(-1, 1, (P * H * H,), float32)`: affinities from host to host, for each pair.

    `envs.affinity` expands (1 + a) / 2 within the connection budget, with the load proportions in force: equal values
    give every downstream container its load proportion, -1 separates two hosts.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.action_space = _symmetric_box(len(self._info.pairs) * len(self._info.hosts) ** 2)

    def action(self, action: Any) -> GraphInstance | None:
        """The plan as a graph, see `imbres_gym.action`."""
        values = _values(action, self.action_space)
        if values is None:
            return None
        return connections_of(values, self._observation["proportions"], self._observation, self._info)


class FlatReplicas(FlatAction):
    """Replica counts from a `MultiDiscrete([2 * max_step + 1] * M)`: steps relative to the wanted replicas.

    `max_step` keeps the count, 0 takes `max_step` containers away, `2 * max_step` adds as many; the result is clipped
    to `min_replicas..max_replicas`.

    Args:
        env: an environment whose action is replica counts.
        max_step: largest change of a count in one step, >= 1.
    """

    def __init__(self, env: gym.Env[Any, Any], max_step: int = 3) -> None:
        super().__init__(env)
        self._max_step = _checked_step(max_step)
        self.action_space = spaces.MultiDiscrete(np.full(len(self._info.microservices), 2 * max_step + 1))

    def action(self, action: Any) -> NDArray[np.int64] | None:
        """(M,) int64 replica counts."""
        if action not in self.action_space:
            return None
        return replicas_of(np.asarray(action, np.int64) - self._max_step, self._observation, self._info)


class FlatTargets(FlatAction):
    """Replica counts from a `Box(-1, 1, (M,), float32)`: a target utilisation per microservice.

    0 aims at 50 % CPU, -1 at half and 1 at twice of it; see `imbres_gym.flat.replicas_at_targets`.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.action_space = _symmetric_box(len(self._info.microservices))

    def action(self, action: Any) -> NDArray[np.int64] | None:
        """(M,) int64 replica counts."""
        values = _values(action, self.action_space)
        return None if values is None else replicas_at_targets(values, self._observation, self._info)


class FlatCluster(FlatAction):
    """All three tiers from one `Box(-1, 1, (M * H + P * H * H + M,), float32)`.

    In this order: load proportions as in `FlatProportions`, affinities as in `FlatConnections` but with the load
    proportions of the same action, and changes of the replica counts, `max_step * a` rounded to a whole number.

    Args:
        env: an environment whose action decides all tiers.
        max_step: largest change of a count in one scaling interval, >= 1.
    """

    def __init__(self, env: gym.Env[Any, Any], max_step: int = 3) -> None:
        super().__init__(env)
        self._max_step = _checked_step(max_step)
        m, h, p = len(self._info.microservices), len(self._info.hosts), len(self._info.pairs)
        self._cuts = [m * h, m * h + p * h * h]
        self.action_space = _symmetric_box(m * h + p * h * h + m)

    def action(self, action: Any) -> dict[str, Any] | None:
        """The dictionary that the joint environment takes."""
        values = _values(action, self.action_space)
        if values is None:
            return None
        load, affinity, change = np.split(values, self._cuts)
        proportions = proportions_of(load, self._observation)
        steps = np.rint(self._max_step * change).astype(np.int64)
        return {
            "proportions": proportions,
            "connections": connections_of(affinity, proportions, self._observation, self._info),
            "replicas": replicas_of(steps, self._observation, self._info),
        }


def connections_of(
    values: NDArray[np.float64], proportions: NDArray[Any], observation: Observation, info: ClusterInfo
) -> GraphInstance:
    """A connection plan as a graph, from P * H * H values in [-1, 1]; see `FlatConnections`."""
    hosts = len(info.hosts)
    affinity = (1.0 + values.reshape(len(info.pairs), hosts, hosts)) / 2.0
    plan = expand_affinity(affinity, proportions.astype(np.float64), observation, info)
    return encode_connections(plan, observation)


def replicas_of(steps: NDArray[np.int64], observation: Observation, info: ClusterInfo) -> NDArray[np.int64]:
    """Replica counts (M,) from changes (M,) of the wanted ones, clipped to their bounds."""
    wanted: NDArray[np.int64] = observation["wanted"] + steps
    return np.clip(wanted, info.min_replicas, info.max_replicas)


def _symmetric_box(size: int) -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (size,), np.float32)


def _values(action: Any, space: gym.Space[Any]) -> NDArray[np.float64] | None:
    """The action as numbers in [-1, 1]; None if its shape or type is wrong."""
    try:
        values = np.asarray(action, np.float64)
    except (TypeError, ValueError):
        return None
    if values.shape != space.shape:
        return None
    return np.asarray(np.minimum(np.maximum(np.where(np.isnan(values), 0.0, values), -1.0), 1.0))


def _checked_step(max_step: int) -> int:
    if max_step < 1:
        raise ConfigError(f"max_step: {max_step} must be at least 1")
    return max_step
