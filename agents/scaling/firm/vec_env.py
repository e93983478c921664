"""The microservices of one application as the parallel environments of stable-baselines3: one actor for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from agents.scaling.firm.resizing import STATE_SIZE
from agents.scaling.firm.task import ResizingTask, Units


class MicroserviceVecEnv(VecEnv):
    """Environment i is microservice i; all step together, since they share the cluster.

    One episode: unlike other vector environments it does not start a next one by itself.

    Args:
        task: the application.
        seed: of the episode.
        units: of the states and rewards that the learner gets.
    """

    def __init__(self, task: ResizingTask, seed: int, units: Units) -> None:
        self._task = task
        self._units = units
        self._seed = seed
        self._actions = np.zeros(0, np.float32)
        self.render_mode = None
        super().__init__(
            len(task.info.microservices),
            spaces.Box(-np.inf, np.inf, (STATE_SIZE,), np.float32),
            spaces.Box(-1.0, 1.0, (1,), np.float32),
        )

    def reset(self) -> NDArray[np.float32]:
        """Start the episode."""
        return self._units.normalisation.apply(self._task.reset(self._seed))

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Take the actions (M, 1)."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Act, and let a scaling interval pass."""
        step = self._task.step(self._actions[:, 0])
        over = np.full(self.num_envs, step.over)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        seen = self._units.normalisation.apply(step.states)
        rewards = (step.rewards - self._units.reward_mean) / self._units.reward_deviation
        if step.over:
            infos = [{"terminal_observation": row, "TimeLimit.truncated": True} for row in seen]
        return seen, rewards.astype(np.float32), over, infos

    def close(self) -> None:
        """Release the cluster."""
        self._task.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute, which all share."""
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not supported: the environments have nothing of their own."""
        raise NotImplementedError("the microservices of a cluster cannot be changed one by one")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Not supported: the environments have nothing of their own."""
        raise NotImplementedError("the microservices of a cluster cannot be called one by one")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Never."""
        return [False] * self.num_envs

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Episodes have their own seeds; this one is ignored."""
        return [None] * self.num_envs
