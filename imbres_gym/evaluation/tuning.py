"""Choosing one option of an agent by a fixed rule, on seeds that no evaluation uses.

The rule: of the values whose 60-s windows are above the SLA in at most 5 % of the cases (the mean of the tuning seeds),
the one with the fewest containers; if there is none, the one with the fewest violations, then the fewest containers.
Values are tried from the thriftiest on, and the search ends at the first that keeps the SLA: the rest needs more
containers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imbres_gym.agent import AgentConfig, load_agent_config
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.markdown import table
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.scenario import Scenario

TUNING_SEEDS = (2000, 2001)
"""Seeds that settings are chosen on; no evaluation uses them."""

MOST_VIOLATIONS = 0.05
"""Share of violated windows that counts as keeping the SLA: what the paper reports for Imbres (section 6.2)."""


@dataclass(frozen=True)
class Knob:
    """One option of an agent's scaling tier, and the values that are tried: those that need fewest containers first."""

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
    scenarios: Sequence[Scenario],
    knobs: Mapping[str, Knob],
    warmup_s: float,
    run: Callable[[Sequence[EpisodeTask]], list[EpisodeResult]],
    seeds: Sequence[int] = TUNING_SEEDS,
) -> tuple[list[Tuned], list[EpisodeResult]]:
    """Search every agent's option in every scenario; returns what was chosen, and the episodes.

    Args:
        scenarios: with the duration of a tuning episode, and names that differ.
        knobs: agent -> option and values; if there are none, nothing runs.
        warmup_s: start of an episode that does not count.
        run: runs episodes and returns them in the order of their tasks; asked once for every round of candidates.
        seeds: of the tuning episodes.
    """
    searches = {(s.name, agent): _Search(s, agent, knob) for s in scenarios for agent, knob in knobs.items()}
    results: list[EpisodeResult] = []
    for position in range(max((len(knob.values) for knob in knobs.values()), default=0)):
        open_ones = [search for search in searches.values() if search.goes_on(position)]
        tasks = [
            EpisodeTask(s.scenario.name, s.scenario, s.label(position), s.config(position), seed, warmup_s)
            for s in open_ones
            for seed in seeds
        ]
        finished = run(tasks)
        results += finished
        for search in open_ones:
            search.add(position, finished)
    return [search.outcome() for search in searches.values()], results


class _Search:
    """The search of one agent's option in one scenario."""

    def __init__(self, scenario: Scenario, agent: str, knob: Knob) -> None:
        self.scenario = scenario
        self._agent = agent
        self._knob = knob
        self._candidates: list[Candidate] = []

    def goes_on(self, position: int) -> bool:
        """Whether the value at `position` is to be tried."""
        found = any(candidate.violation <= MOST_VIOLATIONS for candidate in self._candidates)
        return position < len(self._knob.values) and not found

    def label(self, position: int) -> str:
        """Name of the agent with that value."""
        return f"{self._agent}-{self._knob.values[position]:g}"

    def config(self, position: int) -> AgentConfig:
        """The agent with that value."""
        return with_option(self._agent, self._knob.option, self._knob.values[position])

    def add(self, position: int, results: Sequence[EpisodeResult]) -> None:
        """Take in the episodes of that value, among others."""
        mine = [
            result.metrics["settled"]
            for result in results
            if (result.scenario, result.agent) == (self.scenario.name, self.label(position))
        ]
        means = (float(np.mean([metrics[name] for metrics in mine])) for name in ("containers", "sla_violation"))
        self._candidates.append(Candidate(self._knob.values[position], *means))

    def outcome(self) -> Tuned:
        """What is chosen."""
        chosen = choose(self._candidates)
        config = with_option(self._agent, self._knob.option, chosen.value)
        return Tuned(self.scenario.name, self._agent, self._knob.option, tuple(self._candidates), chosen, config)


def with_option(agent: str, option: str, value: float | bool | str) -> AgentConfig:
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


def tuning_table(tuned: Sequence[Tuned]) -> str:
    """Markdown: containers and violated windows of every value that was tried; the chosen one is bold."""
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
