"""Choosing one option of an agent by a fixed rule, on seeds that no evaluation uses.

The rule: of the values whose 60-s windows are above the SLA in at most 5 % of the cases (the mean of the tuning seeds),
the one with the fewest containers; if there is none, the one with the fewest violations, then the fewest containers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imbres_gym.agent import AgentConfig, load_agent_config
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.executor import Executor
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.scenario import Scenario
from scripts.experiments.runs import TUNING_SEEDS, run_episodes, table

MOST_VIOLATIONS = 0.05
"""Share of violated windows that counts as keeping the SLA: what the paper reports for Imbres (section 6.2)."""


@dataclass(frozen=True)
class Knob:
    """One option of an agent's scaling tier, and the values that are tried."""

    option: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Candidate:
    """One value that was tried.

    Attributes:
        value: of the option.
        containers: time average, mean over the tuning seeds.
        violation: share of violated windows [0-1], mean over the tuning seeds.
    """

    value: float
    containers: float
    violation: float


@dataclass(frozen=True)
class Tuned:
    """What came out for one agent in one scenario; `config` has the chosen value."""

    scenario: str
    agent: str
    option: str
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    config: AgentConfig

    @property
    def met(self) -> bool:
        """Whether the chosen value keeps the SLA."""
        return self.chosen.violation <= MOST_VIOLATIONS


def tune(
    scenarios: Sequence[Scenario], knobs: Mapping[str, Knob], warmup_s: float, folder: Path, executor: Executor
) -> tuple[list[Tuned], list[EpisodeResult]]:
    """Try every value of every agent's option in every scenario; returns what was chosen, and the episodes.

    Args:
        scenarios: with the duration of a tuning episode, and names that differ.
        knobs: agent -> option and values.
        warmup_s: start of an episode that does not count.
        folder: for the episodes.
        executor: runs them.
    """
    tried = [(s, agent, knob, value) for s in scenarios for agent, knob in knobs.items() for value in knob.values]
    tasks = [
        EpisodeTask(s.name, s, f"{agent}-{value:g}", with_option(agent, knob.option, value), seed, warmup_s)
        for s, agent, knob, value in tried
        for seed in TUNING_SEEDS
    ]
    results = run_episodes(tasks, folder, executor)
    tuned = []
    for scenario in scenarios:
        for agent, knob in knobs.items():
            candidates = tuple(_candidate(results, scenario.name, agent, value) for value in knob.values)
            chosen = choose(candidates)
            config = with_option(agent, knob.option, chosen.value)
            tuned.append(Tuned(scenario.name, agent, knob.option, candidates, chosen, config))
    return tuned, results


def with_option(agent: str, option: str, value: float) -> AgentConfig:
    """A shipped agent with another value of an option of its scaling tier."""
    config = load_agent_config(agent)
    scaling = {**config.options["scaling"], option: value}
    return config.model_copy(update={"options": {**config.options, "scaling": scaling}})


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The rule at the top of this file."""
    good = [candidate for candidate in candidates if candidate.violation <= MOST_VIOLATIONS]
    if good:
        return min(good, key=lambda candidate: candidate.containers)
    return min(candidates, key=lambda candidate: (candidate.violation, candidate.containers))


def _candidate(results: Sequence[EpisodeResult], scenario: str, agent: str, value: float) -> Candidate:
    mine = [
        result.metrics["settled"]
        for result in results
        if result.scenario == scenario and result.agent == f"{agent}-{value:g}"
    ]
    return Candidate(
        value,
        float(np.mean([metrics["containers"] for metrics in mine])),
        float(np.mean([metrics["sla_violation"] for metrics in mine])),
    )


def tuning_table(tuned: Sequence[Tuned]) -> str:
    """Markdown: containers and violated windows of every value; the chosen one is bold."""
    values = list(dict.fromkeys(candidate.value for item in tuned for candidate in item.candidates))
    rows = []
    for item in tuned:
        shown = {candidate.value: _shown(candidate, item.chosen) for candidate in item.candidates}
        met = "" if item.met else " (none keeps the SLA)"
        rows.append([f"{item.scenario} {item.agent} `{item.option}`{met}", *(shown.get(v, "") for v in values)])
    return table(["containers (violated windows)", *(f"{value:g}" for value in values)], rows)


def _shown(candidate: Candidate, chosen: Candidate) -> str:
    text = f"{candidate.containers:.0f} ({candidate.violation:.0%})"
    return f"**{text}**" if candidate == chosen else text
