"""Some of the environments of a vector environment, in this process or in another one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from gymnasium.vector.utils import batch_space, iterate, read_from_shared_memory
from numpy.typing import NDArray

from envs.base import MicroserviceEnv
from imbres_gym.observation import Observation, Page
from imbres_gym.sent import sendable

Result = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]
"""Rewards (n,), ends of episodes (n,), and numbers of the infos (n, len(`INFO`))."""


class Chunk:
    """Environments that are stepped one after another; their observations go into rows of common arrays.

    Args:
        single: class of the environments.
        arguments: of the environments.
        batches: arrays to choose from at each step, key -> (num_envs, ...).
        rows: of these environments.
        first: an environment that there is already.
    """

    def __init__(
        self,
        single: type[MicroserviceEnv],
        arguments: dict[str, Any],
        batches: Sequence[Observation],
        rows: range,
        first: MicroserviceEnv | None = None,
    ) -> None:
        made = [] if first is None else [first]
        self._environments = made + [single(**arguments) for _ in range(len(rows) - len(made))]
        self._pages = [[Page({key: array[row] for key, array in batch.items()}) for row in rows] for batch in batches]
        self._actions = batch_space(self._environments[0].action_space, len(rows))
        self._ended = [False] * len(rows)

    def reset(self, batch: int, seeds: Sequence[int | None], options: dict[str, Any] | None) -> Result:
        """Start every episode, with a seed for each; the observations go into this batch."""
        for environment, seed in zip(self._environments, seeds, strict=True):
            environment.reset(seed=seed, options=options)
        self._ended = [False] * len(seeds)
        return self._result(batch, [(0.0, False)] * len(seeds))

    def step(self, batch: int, actions: Any) -> Result:
        """An action for each, an element of their batched space; one whose episode has ended starts the next one."""
        outcomes = []
        for i, action in enumerate(iterate(self._actions, actions)):
            environment = self._environments[i]
            if self._ended[i]:
                environment.reset()
                outcomes.append((0.0, False))
            else:
                truncated = environment.step_in_place(action)
                outcomes.append((environment.reward, truncated))
            self._ended[i] = outcomes[-1][1]
        return self._result(batch, outcomes)

    def close(self) -> None:
        """Release the environments."""
        for environment in self._environments:
            environment.close()

    def _result(self, batch: int, outcomes: list[tuple[float, bool]]) -> Result:
        for environment, page in zip(self._environments, self._pages[batch], strict=True):
            environment.show(page)
        rewards, ends = zip(*outcomes, strict=True)
        numbers = np.array([environment.numbers for environment in self._environments])
        return np.array(rewards, np.float64), np.array(ends, np.bool_), numbers


class Worker:
    """A process with a chunk.

    Args:
        context: starts it.
        single: class of the environments.
        arguments: of the environments.
        memories: shared memories of the observations of all `num_envs` environments.
        num_envs: how many there are.
        indices: its environments.
        core: it runs on, None is any.
    """

    def __init__(
        self,
        context: SpawnContext,
        single: type[MicroserviceEnv],
        arguments: dict[str, Any],
        memories: Sequence[Any],
        num_envs: int,
        indices: range,
        core: int | None = None,
    ) -> None:
        self.indices = indices
        self._pipe, theirs = context.Pipe()
        given = (theirs, single, memories, num_envs, indices, core)
        self._process = context.Process(target=_serve, args=given, daemon=True)
        # The process needs nothing of the caller's main module, which might make environments, and so processes, when
        # it is imported there: a script without `if __name__ == "__main__":`.
        with mock.patch.dict(sys.modules, {"__main__": ModuleType("__main__")}):
            self._process.start()
        theirs.close()
        # Not among what it starts with: starting waits until that is read, for ever if the process is gone by then.
        with suppress(OSError):
            self._pipe.send(arguments)

    def send(self, what: str, arguments: tuple[Any, ...]) -> None:
        """Ask for `Chunk.reset` or `Chunk.step`."""
        with suppress(OSError):  # a process that is gone is reported by `receive`
            self._pipe.send((what, arguments))

    def receive(self) -> Result | Exception:
        """The answer, or what went wrong: an exception of the environment, or a RuntimeError if the process is gone."""
        try:
            answer: Result | Exception = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            return RuntimeError(
                f"the process of environments {self.indices.start} to {self.indices.stop - 1} has died "
                f"(exit code {self._process.exitcode}); make the vector environment again"
            )
        return answer

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):  # it may be gone already
            self._pipe.send(None)
        self._process.join(5.0)
        self._process.kill()
        self._pipe.close()


def _serve(
    pipe: Connection,
    single: type[MicroserviceEnv],
    memories: Sequence[Any],
    num_envs: int,
    indices: range,
    core: int | None,
) -> None:
    """Answer until told to stop, or until the caller is gone."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):  # the core may have been taken away
            os.sched_setaffinity(0, {core})
    environments: Chunk | None = None
    try:
        arguments = pipe.recv()
        while (question := pipe.recv()) is not None:
            try:
                if environments is None:
                    first = single(**arguments)
                    space: Any = first.observation_space
                    batches: list[Any] = [read_from_shared_memory(space, memory, num_envs) for memory in memories]
                    environments = Chunk(single, arguments, batches, indices, first)
                what, given = question
                pipe.send(getattr(environments, what)(*given))
            except Exception as error:
                pipe.send(sendable(error))
    except (EOFError, KeyboardInterrupt):
        pass
    finally:
        if environments is not None:
            environments.close()
