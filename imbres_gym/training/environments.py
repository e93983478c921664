"""The environments of a training run: made from the recipe, stepped together, spread over processes if wanted.

Imports stable-baselines3, so import it where it is used.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from imbres_gym.policy import load_object
from imbres_gym.scenario import Scenario
from imbres_gym.sent import sendable
from imbres_gym.training.recipe import Recipe
from imbres_gym.training.seeds import TrainingEpisodes

MAKE_ENVIRONMENT = "envs.wrappers:make_learning_env"
"""By import path, because this package must not depend on `envs`."""

Maker = Callable[[], gym.Env[Any, Any]]


class WorkerDied(RuntimeError):
    """A process that steps environments is gone.

    Args:
        exit_code: of the process; negative: the signal that killed it.
    """

    def __init__(self, exit_code: int | None) -> None:
        hint = "; the system may have run out of memory: try fewer --workers" if exit_code == -9 else ""
        super().__init__(f"a worker process died (exit code {exit_code}){hint}")


class MakeEnvironment:
    """Makes an environment of a recipe; a class, so that it can be sent to another process.

    Args:
        recipe: observation, action and reward.
        scenario: what is trained on; its duration gives way to the recipe's.
        training: whether episodes draw their own seeds.
    """

    def __init__(self, recipe: Recipe, scenario: Scenario, *, training: bool) -> None:
        self._recipe = recipe
        self._scenario = scenario
        self._training = training

    def __call__(self) -> gym.Env[Any, Any]:
        """A new environment.

        Raises:
            ConfigError: the scenario or the reward weights are wrong.
        """
        recipe = self._recipe
        env: gym.Env[Any, Any] = load_object(MAKE_ENVIRONMENT)(
            recipe.environment,
            self._scenario,
            keys=recipe.observation,
            targets=recipe.tier == "scaling",
            duration=recipe.duration,
            reward_weights=recipe.reward_weights,
        )
        return TrainingEpisodes(env) if self._training else env


def make_environments(make: Maker, count: int, workers: int) -> VecEnv:
    """`count` environments, in this process for one worker, else spread over at most `workers` processes."""
    workers = min(workers, count)
    if workers == 1:
        return DummyVecEnv([make] * count)
    return WorkerEnvironments([[make] * len(part) for part in np.array_split(np.arange(count), workers)])


class WorkerEnvironments(VecEnv):
    """Groups of environments, each in a process of its own; behaves as one `DummyVecEnv` of all of them.

    A process ignores Ctrl-C and ends with its parent. What an environment raises is raised here, as by a
    `DummyVecEnv`; where a process is gone, `WorkerDied` is.
    """

    def __init__(self, groups: Sequence[Sequence[Maker]]) -> None:
        context = get_context("spawn")
        self._connections: list[Connection[Any, Any]] = []
        self._processes: list[SpawnProcess] = []
        for group in groups:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, list(group)), daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
        self._sizes = [len(group) for group in groups]
        observation_space, action_space = self._ask("spaces")[0]
        super().__init__(sum(self._sizes), observation_space, action_space)

    def reset(self) -> Any:
        """Observations (n, size) of new episodes."""
        seeds = self._split(self._seeds)
        answers = self._ask("reset", seeds)
        self._reset_seeds()
        self.reset_infos = [info for _, infos in answers for info in infos]
        return np.concatenate([observations for observations, _ in answers])

    def step_async(self, actions: Any) -> None:
        """Send each process its actions."""
        self._tell("step", self._split(actions))

    def step_wait(self) -> Any:
        """Observations, rewards, ends and infos of all environments."""
        observations, rewards, dones, infos = zip(*self._answers(), strict=True)
        return (
            np.concatenate(observations),
            np.concatenate(rewards),
            np.concatenate(dones),
            [info for of_group in infos for info in of_group],
        )

    def close(self) -> None:
        """End the processes."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(timeout=5.0)
            process.terminate()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Only what stable-baselines3 itself asks for: no environment here renders."""
        return [None] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not supported.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("environments in other processes cannot be written to")

    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **keywords: Any) -> list[Any]:
        """Not supported.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("environments in other processes cannot be called")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No environment has a wrapper of stable-baselines3."""
        return [False] * len(list(self._get_indices(indices)))

    def _split(self, values: Any) -> list[Any]:
        ends = np.cumsum(self._sizes)
        return [values[end - size : end] for size, end in zip(self._sizes, ends, strict=True)]

    def _ask(self, command: str, parts: Sequence[Any] | None = None) -> list[Any]:
        self._tell(command, parts or [None] * len(self._connections))
        return self._answers()

    def _tell(self, command: str, parts: Sequence[Any]) -> None:
        for connection, part in zip(self._connections, parts, strict=True):
            with contextlib.suppress(OSError):  # a process that is gone is reported where its answer is missing
                connection.send((command, part))

    def _answers(self) -> list[Any]:
        # All are read before one is raised: what stayed in a pipe would be taken for the answer to the next question.
        answers = [_receive(*worker) for worker in zip(self._connections, self._processes, strict=True)]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


def _receive(connection: Connection[Any, Any], process: SpawnProcess) -> Any:
    """The answer, or the exception that there is instead."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        process.join()
        return WorkerDied(process.exitcode)


def _serve(connection: Connection[Any, Any], makers: list[Maker]) -> None:
    """The life of a process: step its environments until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    group: DummyVecEnv | None = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            command, part = connection.recv()
            try:
                group = DummyVecEnv(makers) if group is None else group
                connection.send(_obey(group, command, part))
            except Exception as error:
                connection.send(sendable(error))


def _obey(group: DummyVecEnv, command: str, part: Any) -> Any:
    if command == "spaces":
        return group.observation_space, group.action_space
    if command == "reset":
        group._seeds = list(part)
        return group.reset(), group.reset_infos
    return group.step(part)
