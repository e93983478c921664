"""Many copies of an environment at once, on all cores: `gym.make_vec(..., vectorization_mode="vector_entry_point")`."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, create_shared_memory, read_from_shared_memory
from numpy.typing import NDArray

from envs.base import INFO, MicroserviceEnv
from envs.cluster import ClusterEnv
from envs.connections import ConnectionsEnv
from envs.load_shifting import LoadShiftingEnv
from envs.scaling import ScalingEnv
from envs.vector_worker import Chunk, Worker
from imbres_gym.config import ConfigError
from imbres_gym.lent import Lent
from imbres_gym.observation import KEPT, Observation

Floats = NDArray[np.float64]


class MicroserviceVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """`num_envs` environments, split among worker processes that write observations into shared memory.

    Every environment does exactly what a single one does for the same seed and actions. An episode that has ended
    starts anew in the next step (`AutoresetMode.NEXT_STEP`): that step ignores the action, and its reward is 0.

    `infos` has the arrays `infos["metrics"][name]`, `infos["reward_parts"][name]`, `infos["illegal_actions"][name]` and
    `infos["time_s"]`, (num_envs,) float64 each.

    Args:
        num_envs: how many.
        workers: processes; None is one for each core, which it stays on where the system lets it: moved around by the
            scheduler they take up to half as long again. 1 is none but the caller's.
        scenario: and all other arguments, of the single environment; `render_mode` must be None.

    Raises:
        ConfigError: an argument is wrong.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012
    single: ClassVar[type[MicroserviceEnv]]
    """The environment that there are many of."""

    def __init__(self, num_envs: int = 1, workers: int | None = None, **arguments: Any) -> None:
        if num_envs < 1 or (workers is not None and workers < 1):
            raise ConfigError(f"num_envs, workers: {num_envs}, {workers}: there must be at least one")
        if arguments.get("render_mode") is not None:
            raise ConfigError("render_mode: many environments cannot be shown; make a single one")
        first = self.single(**arguments)
        self.num_envs = num_envs
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._workers: list[Worker] = []
        self._started = False
        self._chunk: Chunk | None = None
        cores = _cores()
        count = min(num_envs, workers or len(cores))
        on_core: list[int | None] = [*cores] if workers is None else [None] * count
        context: Any = multiprocessing.get_context("spawn")
        space: Any = self.single_observation_space
        self._memories = memories = [create_shared_memory(space, num_envs, context) for _ in range(1 + KEPT)]
        batches: list[Any] = [read_from_shared_memory(space, memory, num_envs) for memory in memories]
        if count == 1:
            self._chunk = Chunk(self.single, arguments, batches, range(num_envs), first)
        else:
            first.close()
            edges = np.linspace(0, num_envs, count + 1).astype(int).tolist()
            for core, (low, high) in zip(on_core, pairwise(edges), strict=False):
                of = range(low, high)
                self._workers.append(Worker(context, self.single, arguments, memories, num_envs, of, core))
        # The first batch is never lent: it is copied where the caller still holds all others.
        self._own: Observation = batches[0]
        self._lent = [Lent(batch) for batch in batches[1:]]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start all episodes.

        Args:
            seed: one for each environment, or that of the first, from which the others count up; None as in a single
                environment.
            options: of a single environment.
        """
        seeds = [None] * self.num_envs if seed is None else seed
        if isinstance(seeds, int):
            seeds = [seeds + i for i in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ConfigError(f"seed: {len(seeds)} of them for {self.num_envs} environments")
        self._started = True
        batch = self._free_batch()
        _, _, infos = self._all("reset", lambda i: (batch, [seeds[k] for k in i], options))
        return self._seen(batch), infos

    def step(self, actions: Any) -> tuple[Any, Floats, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of every environment; see `MicroserviceEnv.step`.

        Args:
            actions: an element of `action_space`.
        """
        if not self._started:
            raise gym.error.ResetNeeded("call reset() before anything else")
        batch = self._free_batch()
        rewards, truncated, infos = self._all("step", lambda i: (batch, _part(actions, i)))
        return self._seen(batch), rewards, np.zeros(self.num_envs, np.bool_), truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Release the environments and the processes."""
        if self._chunk is not None:
            self._chunk.close()
        for worker in self._workers:
            worker.close()

    def _all(
        self, what: str, arguments: Callable[[range], tuple[Any, ...]]
    ) -> tuple[Floats, NDArray[np.bool_], dict[str, Any]]:
        """Have every environment do something, with arguments for some of them; rewards, ends and infos."""
        if self._chunk is not None:
            results = [getattr(self._chunk, what)(*arguments(range(self.num_envs)))]
        else:
            for worker in self._workers:
                worker.send(what, arguments(worker.indices))
            answers = [worker.receive() for worker in self._workers]  # of all, before one of them is an error
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            results = [answer for answer in answers if not isinstance(answer, Exception)]
        rewards, truncated, values = (np.concatenate(parts) for parts in zip(*results, strict=True))
        return rewards, truncated, _as_infos(values)

    def _free_batch(self) -> int:
        """Where observations can be written to."""
        return next((1 + i for i, lent in enumerate(self._lent) if lent.free), 0)

    def _seen(self, batch: int) -> Observation:
        """The observations of a batch, as the caller's own."""
        if batch > 0:
            return self._lent[batch - 1].views()
        return {key: array.copy() for key, array in self._own.items()}


def _cores() -> list[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _part(actions: Any, of: range) -> Any:
    """The actions of some of the environments."""
    if isinstance(actions, Mapping):
        return {key: _part(value, of) for key, value in actions.items()}
    return actions[of.start : of.stop]


def _as_infos(values: Floats) -> dict[str, Any]:
    """Columns of numbers as the nested dictionary that a single environment has, with arrays in place of numbers."""
    infos: dict[str, Any] = {}
    present = np.ones(len(values), np.bool_)
    for column, (group, name) in enumerate(INFO):
        target = infos.setdefault(group, {}) if name else infos
        target[name or group] = values[:, column]
        target[f"_{name or group}"] = present
        infos[f"_{group}"] = present
    return infos


class LoadShiftingVectorEnv(MicroserviceVectorEnv):
    """Many `LoadShiftingEnv`."""

    single = LoadShiftingEnv


class ConnectionsVectorEnv(MicroserviceVectorEnv):
    """Many `ConnectionsEnv`."""

    single = ConnectionsEnv


class ScalingVectorEnv(MicroserviceVectorEnv):
    """Many `ScalingEnv`."""

    single = ScalingEnv


class ClusterVectorEnv(MicroserviceVectorEnv):
    """Many `ClusterEnv`."""

    single = ClusterEnv
