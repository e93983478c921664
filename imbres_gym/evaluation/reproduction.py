"""The paper's figures 6 and 7 from our episodes, and our numbers beside the paper's (section 6.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imbres_gym.evaluation.aggregate import ORACLE, relative_containers, runs_by_agent, violations
from imbres_gym.evaluation.bars import bar_panels
from imbres_gym.evaluation.comparison import write_outputs
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.experiment import Experiment
from imbres_gym.evaluation.markdown import table
from imbres_gym.evaluation.report import Row, format_mean, format_spread
from imbres_gym.evaluation.runner import EpisodeFailure
from imbres_gym.evaluation.statistics import Aggregate, Estimate, Floats, pooled_mean, stratified_bootstrap
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.evaluation.tuning import TUNING_SEEDS, Tuned, tune, tuning_table
from imbres_gym.scenario import load_scenario

Run = Callable[[str, Sequence[EpisodeTask]], tuple[list[EpisodeResult], list[EpisodeFailure]]]
"""Runs the episodes of one part ("tuning", "evaluation"); see `imbres_gym.evaluation.runner.run_tasks`."""


@dataclass(frozen=True)
class Outcome:
    """What was run.

    Attributes:
        tuned: what was chosen in each scenario.
        tuning, results: episodes of the search, and of the evaluation.
        failures: evaluation episodes that could not be finished.
    """

    tuned: tuple[Tuned, ...]
    tuning: list[EpisodeResult]
    results: list[EpisodeResult]
    failures: list[EpisodeFailure]


@dataclass(frozen=True)
class WrittenReproduction:
    """Where the outputs are.

    Attributes:
        reports: "fig6" and "fig7" -> Markdown.
        figures: "fig6" and "fig7" -> PNG.
        report: both reports and the tuning in one file.
    """

    reports: dict[str, str]
    figures: dict[str, Path]
    report: Path


class TuningFailed(RuntimeError):
    """An episode of the search could not be finished, so that nothing can be chosen."""


def run_experiment(experiment: Experiment, run: Run) -> Outcome:
    """Search what is to be searched, then evaluate.

    Raises:
        TuningFailed: see there.
        ConfigError: the experiment names something unknown or invalid.
    """

    def run_tuning(tasks: Sequence[EpisodeTask]) -> list[EpisodeResult]:
        results, failures = run("tuning", tasks)
        if failures:
            raise TuningFailed(f"{failures[0].title}: {failures[0].message}")
        return results

    experiment.tasks({})  # mistakes show before anything runs
    scenarios = [load_scenario(name, duration=experiment.tuning.duration, name=name) for name in experiment.scenarios]
    seeds = range(TUNING_SEEDS[0], TUNING_SEEDS[0] + experiment.tuning.seeds)
    tuned, tuning = tune(scenarios, experiment.tuning_knobs(), experiment.warmup, run_tuning, seeds)
    chosen = {(item.scenario, item.agent): item.config for item in tuned}
    results, failures = run("evaluation", experiment.tasks(chosen))
    return Outcome(tuple(tuned), tuning, results, failures)


def write_reproduction(experiment: Experiment, outcome: Outcome, folder: Path) -> WrittenReproduction:
    """Write figures, tables, the summary and the TensorBoard logs below `folder`."""
    written = write_outputs(folder / "evaluation", outcome.results, outcome.failures)
    figures = {"fig6": folder / "fig6-containers.png", "fig7": folder / "fig7-violations.png"}
    bar_panels(written.rows, "containers", figures["fig6"])
    bar_panels(written.rows, "sla_violation", figures["fig7"])
    missing = [f"**{len(outcome.failures)} episodes failed and are missing.**\n"] if outcome.failures else []
    reports = {
        "fig6": "\n".join(["# Containers (Fig. 6)", *missing, _containers(experiment, outcome, written.rows)]),
        "fig7": "\n".join(["# SLA violations (Fig. 7)", *missing, _violations(experiment, outcome, written.rows)]),
    }
    tuning = ["# Tuning\n", tuning_table(outcome.tuned)] if outcome.tuned else []
    report = folder / "report.md"
    write_atomically(report, "\n".join([*reports.values(), *tuning, _cost(outcome)]).encode())
    return WrittenReproduction(reports, figures, report)


def _containers(experiment: Experiment, outcome: Outcome, rows: Sequence[Row]) -> str:
    return "\n".join(
        [
            "Time average, mean over the seeds ± half of the 95 % Student t-interval; in brackets the share of "
            "violated windows: fewer containers are no success where they are bought with violations.\n",
            _scenario_table(experiment, rows),
            f"Fewer containers of {experiment.ours}: mean over scenarios and seeds of 1 - ours / theirs on the same "
            "seed, with the stratified-bootstrap 95 % interval.\n",
            _savings_table(experiment, outcome.results),
            _oracle_table(experiment, outcome.results),
        ]
    )


def _scenario_table(experiment: Experiment, rows: Sequence[Row]) -> str:
    by_name = {(row.scenario, row.agent): row for row in rows}
    lines = []
    for scenario in experiment.scenarios:
        cells = [_containers_cell(by_name.get((scenario, agent))) for agent in experiment.agents]
        lines.append([scenario, *cells])
    return table(["containers (violated windows)", *experiment.agents], lines)


def _containers_cell(row: Row | None) -> str:
    if row is None:
        return "-"
    containers, violation = row.metrics["containers"], row.metrics["sla_violation"]
    spread = format_spread("containers", containers)
    return f"{format_mean('containers', containers)} {spread} ({violation.mean:.0%})".replace("  ", " ")


def _savings_table(experiment: Experiment, results: Sequence[EpisodeResult]) -> str:
    """Our reduction of containers per rival: everywhere, and per application, beside the paper's."""
    claims = experiment.paper.containers_saved_against
    applications = list(dict.fromkeys(name.split("/")[0] for name in experiment.scenarios))
    rivals = [agent for agent in experiment.agents if agent != experiment.ours]
    lines = []
    for rival in rivals:
        everywhere = saving(results, experiment.ours, rival)
        cells = [_share(saving(_of(results, name), experiment.ours, rival)) for name in applications]
        lines.append([f"against {rival}", _claim(claims.get(rival)), _share(everywhere), *cells])
    named = [rival for rival in rivals if rival in claims]
    if named:
        cells = [_share(saving(_of(results, name), experiment.ours, *named)) for name in applications]
        everywhere = saving(results, experiment.ours, *named)
        lines.append([f"against {', '.join(named)}", "", _share(everywhere), *cells])
        paper = [_claim(experiment.paper.containers_saved_in.get(name)) for name in applications]
        lines.append(["the paper, per application", "", "", *paper])
    return table(["fewer containers", "paper", "here", *applications], lines)


def _of(results: Sequence[EpisodeResult], application: str) -> list[EpisodeResult]:
    return [result for result in results if result.scenario.split("/")[0] == application]


def saving(results: Sequence[EpisodeResult], ours: str, *theirs: str) -> Aggregate | None:
    """Share of containers that `ours` saves: mean of 1 - ours / theirs over scenarios, seeds and rivals.

    The interval resamples the seeds within each scenario. None if no seed has both.
    """
    agents = runs_by_agent(results)
    ratios = [relative_containers(agents.get(ours, {}), agents.get(rival, {})) for rival in theirs]
    return _mean([1.0 - ratio for per_rival in ratios for ratio in per_rival])


def _mean(strata: Sequence[Floats]) -> Aggregate | None:
    return stratified_bootstrap(strata, pooled_mean) if strata else None


def _oracle_table(experiment: Experiment, results: Sequence[EpisodeResult]) -> str:
    """Containers of every agent over those of the oracle."""
    if ORACLE not in experiment.agents:
        return ""
    applications = list(dict.fromkeys(name.split("/")[0] for name in experiment.scenarios))
    lines = []
    for agent in experiment.agents:
        cells = []
        for part in (results, *(_of(results, name) for name in applications)):
            agents = runs_by_agent(part)
            cells.append(_ratio(_mean(relative_containers(agents.get(agent, {}), agents.get(ORACLE, {})))))
        lines.append([agent, *cells])
    return table(["containers / oracle's", "here", *applications], lines)


def _violations(experiment: Experiment, outcome: Outcome, rows: Sequence[Row]) -> str:
    claims = experiment.paper.violation
    by_name = {(row.scenario, row.agent): row for row in rows}
    lines = []
    for scenario in experiment.scenarios:
        found = [by_name.get((scenario, agent)) for agent in experiment.agents]
        lines.append([scenario, *(_share(row.metrics["sla_violation"]) if row else "-" for row in found)])
    agents = runs_by_agent(outcome.results)
    means = [_mean(violations(agents.get(agent, {}))) for agent in experiment.agents]
    lines.append(["**mean**", *map(_share, means)])
    lines.append(["the paper", *(_claim(claims.get(agent)) for agent in experiment.agents)])
    return "\n".join(
        [
            "Share of 60-s windows whose p95 is above the SLA for any request class: mean over the seeds with the 95 % "
            "interval (Student t per scenario, stratified bootstrap for the mean over scenarios).\n",
            table(["violated windows", *experiment.agents], lines),
        ]
    )


def _cost(outcome: Outcome) -> str:
    episodes = [*outcome.tuning, *outcome.results]
    simulated = sum(result.duration_s for result in episodes) / 3600.0
    wall = sum(result.wall_s for result in episodes) / 60.0
    return f"{len(episodes)} episodes, {simulated:.0f} simulated hours, {wall:.0f} minutes on one core.\n"


def _share(estimate: Estimate | Aggregate | None) -> str:
    """A share with its interval: "49 % (47 to 51)"."""
    if estimate is None:
        return "-"
    middle, low, high = (100.0 * value for value in (_middle(estimate), estimate.low, estimate.high))
    return f"{middle:.0f} %" if low == high else f"{middle:.0f} % ({low:.0f} to {high:.0f})"


def _ratio(estimate: Aggregate | None) -> str:
    if estimate is None:
        return "-"
    if estimate.low == estimate.high:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _middle(estimate: Estimate | Aggregate) -> float:
    return estimate.mean if isinstance(estimate, Estimate) else estimate.value


def _claim(value: float | None) -> str:
    return "" if value is None else f"{100.0 * value:g} %"
