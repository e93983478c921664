"""A recorded episode, played again: to the end, or up to some step, from which another agent goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imbres_gym.agent import Agent, AgentConfig, load_agent_config, make_agent
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.recorder import Interval
from imbres_gym.evaluation.tape import Tape, digest, load_tape
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.observation import Observation
from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import ClusterInfo

AGENT = "imbres_gym.evaluation.replay:ReplayAgent"


class ReplayAgent:
    """Repeats the actions of a tape, then asks another agent.

    That one knows nothing of what was before: it starts with the observation at its first decision. Replica counts take
    effect at the recorded agent's interval.

    Args:
        info: the cluster.
        seed: of the agent that goes on.
        tape: path of the recorded episode.
        steps: actions to repeat.
        then: name or file of the agent that goes on; None if there is nothing left to decide.
        scenario: that is played.

    Raises:
        ConfigError: the tape is unusable or has fewer actions, or the agent is unknown or wrong.
    """

    def __init__(
        self, info: ClusterInfo, *, seed: int, tape: str, steps: int, then: str | None = None, scenario: Scenario
    ) -> None:
        self._actions = load_tape(Path(tape)).actions[:steps]
        self._next: Agent | None = None if then is None else make_agent(load_agent_config(then), info, seed, scenario)
        self._step = 0

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """The next recorded action, or the other agent's."""
        step, self._step = self._step, self._step + 1
        if step < len(self._actions):
            return self._actions[step], None
        if self._next is None:
            raise ConfigError(f"replay: step {step} was not recorded; say which agent goes on")
        first = np.array([step == len(self._actions)])
        return self._next.predict(observation, state, first, deterministic=deterministic)


@dataclass(frozen=True, eq=False)
class Replay:
    """A recorded episode, ready to be played again with `imbres_gym.evaluation.episode.run_episode`.

    Attributes:
        task: the episode; its agent is a `ReplayAgent`.
        tape: what was recorded.
        steps: recorded actions that are repeated.
    """

    task: EpisodeTask
    tape: Tape
    steps: int


class Comparison:
    """Checks, interval by interval, whether what happens is what was recorded.

    Attributes:
        differs_at: index of the first interval that is not as recorded; None if all were.
    """

    def __init__(self, replay: Replay) -> None:
        self._expected = replay.tape.digests[: replay.steps].tolist()
        self._step = 0
        self.differs_at: int | None = None

    def add(self, interval: Interval) -> None:
        """Take in one control interval."""
        step, self._step = self._step, self._step + 1
        if self.differs_at is None and step < len(self._expected):
            self.differs_at = None if digest(interval.telemetry) == self._expected[step] else step


def plan_replay(path: Path, *, until_s: float | None = None, then: str | None = None) -> Replay:
    """Prepare to play a recorded episode again, in the engine that it was recorded in.

    Args:
        path: of the tape.
        until_s: time in the episode up to which the recorded actions are repeated [s]; its end if None. The time before
            the first decision is one control interval.
        then: agent that decides from there on; without one, the episode stops there.

    Raises:
        ConfigError: the tape is unusable, `until_s` is outside the episode, or `then` is unknown or needs traces that
            were not recorded.
    """
    tape = load_tape(path)
    task, interval_s = tape.task, tape.task.scenario.control_interval_s
    steps = len(tape.actions) if until_s is None else round(until_s / interval_s) - 1
    if not 1 <= steps <= len(tape.actions):
        last_s = (len(tape.actions) + 1) * interval_s
        raise ConfigError(f"--until {until_s:g}: must be from {2 * interval_s:g} to {last_s:g} s in this episode")
    name = task.agent_name if until_s is None else f"{task.agent_name} until {until_s:g} s"
    if then is None:
        stop_s = (steps + 1) * interval_s
        scenario = task.scenario.model_copy(update={"duration": stop_s})
        task = replace(task, scenario=scenario, warmup_s=min(task.warmup_s, stop_s - interval_s))
    else:
        _require_something_left(tape, steps)
        _require_traces(tape, load_agent_config(then))
        name = f"{name}, then {then}"
    agent = AgentConfig(
        name=name,
        agent=AGENT,
        scaling_interval_s=task.agent.scaling_interval_s,
        trace_sampling=task.agent.trace_sampling,
        sees_scenario=True,
        options={"tape": str(path), "steps": steps, "then": then},
    )
    return Replay(replace(task, agent=agent, agent_name=name), tape, steps)


def _require_something_left(tape: Tape, steps: int) -> None:
    if steps == len(tape.actions):
        raise ConfigError("--then: the recorded actions last to the end; say with --until when the agent takes over")


def _require_traces(tape: Tape, agent: AgentConfig) -> None:
    recorded = tape.task.agent.trace_sampling or tape.task.scenario.trace_sampling
    if agent.trace_sampling and not recorded:
        raise ConfigError(
            f"--then {agent.name}: it needs traces, and the episode was recorded without; record it in a scenario "
            f"with trace_sampling: {agent.trace_sampling:g}"
        )
