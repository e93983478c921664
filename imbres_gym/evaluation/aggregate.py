"""One line per agent over all scenarios of a comparison: how it compares with a reference agent.

Containers differ by an order of magnitude between applications, so each episode counts relative to the reference's
episode of the same scenario and seed, which had the same arrivals and the same interference; the inter-quartile mean
keeps one scenario from deciding. Violations are plain means: what the inter-quartile mean leaves out would be just the
scenarios in which an agent breaks the SLA. Intervals: see `imbres_gym.evaluation.statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.statistics import (
    Aggregate,
    Floats,
    pooled_mean,
    probability_of_improvement,
    stratified_bootstrap,
)

ORACLE = "oracle"
"""Name of the agent that knows the simulator: the limit that all are held against, if it is in the comparison."""

Runs = dict[tuple[str, int], EpisodeResult]
"""(scenario, seed) -> the episode of one agent."""


@dataclass(frozen=True)
class AggregateRow:
    """One agent over all scenarios. What is relative is None without an episode that both agents have.

    The reference has no probability of being better than itself.

    Attributes:
        agent: its name.
        episodes: finished episodes that it is judged by.
        missing: further ones, that another agent has of the same scenario and seed.
        containers_to_reference: inter-quartile mean of containers over those of the reference [-].
        containers_to_oracle: the same over those of the oracle; None if there is none.
        sla_violation: mean share of windows above the SLA [0-1].
        request_violation: mean share of requests slower than the SLA or failed [0-1].
        fewer_containers: probability that a run takes fewer containers than one of the reference [0-1].
        fewer_violations: probability that fewer of its windows are above the SLA [0-1].
    """

    agent: str
    episodes: int
    missing: int
    containers_to_reference: Aggregate | None
    containers_to_oracle: Aggregate | None
    sla_violation: Aggregate
    request_violation: Aggregate
    fewer_containers: Aggregate | None
    fewer_violations: Aggregate | None


@dataclass(frozen=True)
class AggregateTable:
    """All agents over all scenarios.

    Attributes:
        reference: name of the agent that the others are compared with.
        scenarios: names, of those with at least one finished episode.
        rows: one per agent that has at least one.
    """

    reference: str
    scenarios: tuple[str, ...]
    rows: tuple[AggregateRow, ...]


def aggregate(results: Sequence[EpisodeResult], reference: str) -> AggregateTable:
    """Aggregate all episodes, per agent in the order of their first ones."""
    agents = runs_by_agent(results)
    cells = {cell for runs in agents.values() for cell in runs}
    theirs, limit = agents.get(reference, {}), agents.get(ORACLE, {})
    rows = [
        AggregateRow(
            agent=agent,
            episodes=len(runs),
            missing=len(cells) - len(runs),
            containers_to_reference=_ratio(runs, theirs),
            containers_to_oracle=_ratio(runs, limit),
            sla_violation=stratified_bootstrap(violations(runs), pooled_mean),
            request_violation=stratified_bootstrap(_strata(runs, _metric("request_violation")), pooled_mean),
            fewer_containers=None if agent == reference else _improvement(runs, theirs, "containers"),
            fewer_violations=None if agent == reference else _improvement(runs, theirs, "sla_violation"),
        )
        for agent, runs in agents.items()
    ]
    return AggregateTable(reference, tuple(dict.fromkeys(result.scenario for result in results)), tuple(rows))


def runs_by_agent(results: Sequence[EpisodeResult]) -> dict[str, Runs]:
    """The episodes of each agent by scenario and seed; agents in the order of their first episodes."""
    agents: dict[str, Runs] = {}
    for result in results:
        agents.setdefault(result.agent, {})[result.scenario, result.seed] = result
    return agents


def relative_containers(runs: Runs, reference: Runs) -> list[Floats]:
    """Containers over those of the reference's episode of the same scenario and seed: per scenario (seeds,) [-]."""
    containers = _metric("containers")
    common = {cell: run for cell, run in runs.items() if cell in reference}
    return _strata(common, lambda run: containers(run) / containers(reference[run.scenario, run.seed]))


def violations(runs: Runs) -> list[Floats]:
    """Share of windows above the SLA: per scenario (seeds,) [0-1]."""
    return _strata(runs, _metric("sla_violation"))


def _metric(name: str) -> Callable[[EpisodeResult], float]:
    return lambda run: run.metrics["settled"][name]


def _strata(runs: Runs, value: Callable[[EpisodeResult], float]) -> list[Floats]:
    """A value of each run, one array per scenario; the order of the seeds is not that of the results."""
    scenarios: dict[str, list[float]] = {}
    for cell in sorted(runs):
        scenarios.setdefault(cell[0], []).append(value(runs[cell]))
    return [np.array(values) for values in scenarios.values()]


def _ratio(runs: Runs, reference: Runs) -> Aggregate | None:
    ratios = relative_containers(runs, reference)
    return stratified_bootstrap(ratios) if ratios else None


def _improvement(runs: Runs, reference: Runs, metric: str) -> Aggregate | None:
    """Over the scenarios that both have; the seeds need not be the same."""
    common = {scenario for scenario, _ in runs} & {scenario for scenario, _ in reference}
    if not common:
        return None
    ours, theirs = (
        _strata({cell: run for cell, run in side.items() if cell[0] in common}, _metric(metric))
        for side in (runs, reference)
    )
    return probability_of_improvement(ours, theirs)
