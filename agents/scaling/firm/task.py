"""One application as a task in which every microservice is a learner of its own, sharing one actor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from agents.network import Network, Normalisation
from agents.scaling.firm.resizing import resized, rewards, served_classes, states
from agents.scaling.firm.scenes import random_scene
from imbres_gym.observation import Observation
from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import ClusterInfo

STEP_S = 60.0
"""Scaling interval of the scenarios: one step."""


@dataclass(frozen=True, eq=False)
class Transition:
    """What a step led to.

    Attributes:
        states: (M, 9) float32.
        rewards: (M,) float64.
        over: the episode ends here, without an end of the task.
        containers: wanted in the step.
        violated: whether the p95 of its interval exceeded the SLA.
    """

    states: NDArray[np.float32]
    rewards: NDArray[np.float64]
    over: bool
    containers: int
    violated: bool


class ResizingTask:
    """Episodes of random scenes; an action is one number in [-1, 1] per microservice.

    Balanced load and ten random downstream containers each, as FIRM runs in the comparison.

    Args:
        bases: scenarios of the application, see `agents.scaling.firm.scenes.bases_of`.
        steps: of an episode.
    """

    def __init__(self, bases: Sequence[Scenario], steps: int) -> None:
        self._bases = bases
        self._duration_s = (steps + 1) * STEP_S  # the first interval passes before the first decision
        scenario = random_scene(bases, 0, self._duration_s)
        self._served = served_classes(scenario.application)
        self._env: Any = gym.make(
            "envs:imbres_gym/Scaling-v0",
            scenario=scenario,
            load="agents.load.balanced:BalancedLoad",
            connections="agents.connections.random_k:RandomConnections",
            disable_env_checker=True,
        )
        self._previous_rps = 0.0
        self._observation: Observation = {}

    @property
    def info(self) -> ClusterInfo:
        """The cluster; only its initial replicas differ between episodes."""
        info: ClusterInfo = self._env.unwrapped.cluster_info
        return info

    def reset(self, seed: int) -> NDArray[np.float32]:
        """Start the episode of a seed; (M, 9) states."""
        scene = random_scene(self._bases, seed, self._duration_s)
        self._observation, _ = self._env.reset(seed=seed, options={"scenario": scene})
        self._previous_rps = 0.0
        return self._see()

    def step(self, actions: NDArray[np.floating]) -> Transition:
        """Resize every microservice by its action (M,) and let a scaling interval pass."""
        info = self.info
        wanted = resized(self._observation["wanted"], actions, (info.min_replicas, info.max_replicas))
        self._observation, _, _, over, _ = self._env.step(wanted)
        latency_ms = float(self._observation["window_p95_ms"].max())
        paid = rewards(self._observation, self._served)
        return Transition(self._see(), paid, over, int(wanted.sum()), latency_ms > info.sla_ms)

    def close(self) -> None:
        """Release the cluster."""
        self._env.close()

    def _see(self) -> NDArray[np.float32]:
        seen = states(self._observation, self._previous_rps, self.info, self._served)
        self._previous_rps = float(self._observation["workload_rps"].sum())
        return seen


@dataclass(frozen=True)
class Score:
    """How an actor does, as means over all steps.

    Attributes:
        reward: over the microservices, too [0-3].
        containers: of the application.
        violations: share of scaling intervals whose p95 exceeded the SLA [0-1].
    """

    reward: float
    containers: float
    violations: float


def play(task: ResizingTask, actor: Network | None, seeds: tuple[int, ...]) -> list[Transition]:
    """Let an actor without noise resize all microservices in the episode of each seed; None changes nothing."""
    steps: list[Transition] = []
    for seed in seeds:
        seen = task.reset(seed)
        over = False
        while not over:
            steps.append(task.step(np.zeros(len(seen)) if actor is None else actor.forward(seen)[:, 0]))
            seen, over = steps[-1].states, steps[-1].over
    return steps


def score(steps: list[Transition]) -> Score:
    """The means of some steps."""
    rows = [(float(step.rewards.mean()), float(step.containers), float(step.violated)) for step in steps]
    return Score(*np.mean(rows, axis=0).tolist())


@dataclass(frozen=True)
class Units:
    """What makes states and rewards numbers of mean 0 and deviation 1, as learning wants them.

    The reward is shifted, too: with all rewards near 2 the critic first learns the 20 that they sum up to, and what it
    says about actions meanwhile is noise that drives the actor to its limits, where it stays.

    Attributes:
        mean, deviation: (9,) of the states.
        reward_mean, reward_deviation: of the rewards.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    reward_mean: float
    reward_deviation: float

    @property
    def normalisation(self) -> Normalisation:
        """That of the states, as a network does it."""
        return Normalisation(np.array(self.mean, np.float32), np.square(np.array(self.deviation, np.float32)))


SMALL = 0.05
"""Deviation that a state or a reward is taken to have at least: smaller ones are noise that must not be blown up."""


def units(steps: list[Transition]) -> Units:
    """Means and deviations over all microservices and steps."""
    seen = np.concatenate([step.states for step in steps]).astype(np.float64)
    paid = np.concatenate([step.rewards for step in steps])
    return Units(
        tuple(seen.mean(axis=0).tolist()),
        tuple(np.maximum(seen.std(axis=0), SMALL).tolist()),
        float(paid.mean()),
        max(float(paid.std()), SMALL),
    )
