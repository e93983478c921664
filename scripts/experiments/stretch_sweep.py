"""How much the gain of load shifting depends on how strongly interference slows a container down.

Run from a checkout: `python scripts/experiments/stretch_sweep.py --workers 2`. The three stretch constants of
`imbres_gym/sim/effects.py` are the least certain ones that matter here, so they are scaled together. iBench's
measurements reach from 1.1 to 2.9 times the demand; the default is 1.45 times on a host at 60 % in everything.
Two comparisons: p95 of load shifting against load balancing at the same replica counts; and containers of Imbres
against those of HPA with full connection, whose target is tuned anew for each stretch by the rule of `tuning.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from imbres_gym.agent import load_agent_config  # noqa: E402
from imbres_gym.evaluation.episode import EpisodeResult  # noqa: E402
from imbres_gym.evaluation.executor import Executor  # noqa: E402
from imbres_gym.evaluation.markdown import table  # noqa: E402
from imbres_gym.evaluation.report import summarise  # noqa: E402
from imbres_gym.evaluation.statistics import mean_interval  # noqa: E402
from imbres_gym.evaluation.task import EpisodeTask  # noqa: E402
from imbres_gym.evaluation.tuning import Knob, tune, tuning_table  # noqa: E402
from imbres_gym.scenario import Scenario, load_scenario  # noqa: E402
from scripts.experiments.figure_4a import TARGETS  # noqa: E402
from scripts.experiments.plotting import COLOURS, FAINT, draw_points, new_figure, save  # noqa: E402
from scripts.experiments.runs import (  # noqa: E402
    by_seed,
    cell,
    evaluation_seeds,
    extremes,
    median_range,
    percent,
    relative_change,
    run_episodes,
    run_from_command_line,
    run_time,
)

BALANCED, SHIFTING, REFERENCE = "static", "load-shifting", "hpa-full"
STRETCHES = ("stretch_cpu", "stretch_memory_bandwidth", "stretch_llc")
SHOWN_UTILISATION = 0.6
"""Utilisation at which the total stretch is stated: that of the most disturbed host of high-strict."""


@dataclass(frozen=True)
class Settings:
    """What is run; the defaults are the experiment.

    Attributes:
        factors: of the three stretch constants.
        utilisations: initial utilisations of the comparison at fixed replica counts.
        knob: how the reference is tuned.
        agents: compared with the reference.
        fixed_s: length of an episode with fixed replica counts [s].
        duration_s: length of a tuning or evaluation episode with scaling [s].
        warmup_s: start that does not count, of a tuning or evaluation episode [s]; see `figure_4a`.
    """

    scenario: str = "social-network/high-strict"
    factors: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 3.0)
    utilisations: tuple[float, ...] = (0.35, 0.45)
    knob: Knob = TARGETS
    agents: tuple[str, ...] = ("imbres", "imbres-margin")
    fixed_s: float = 300.0
    duration_s: float = 900.0
    warmup_s: float = 360.0
    seeds: int = 3


def experiment(settings: Settings, out: Path, executor: Executor) -> str:
    """Run both comparisons at every stretch; write the figure to `out`; returns the report (Markdown)."""
    scenarios = [stretched(settings, factor) for factor in settings.factors]
    fixed = run_episodes(_fixed_tasks(settings, scenarios), out / "fixed", executor)
    knobs = {REFERENCE: settings.knob}
    tuned, tuning = tune(
        scenarios, knobs, settings.warmup_s, lambda tasks: run_episodes(tasks, out / "tuning", executor)
    )
    agents = {name: load_agent_config(name) for name in settings.agents}
    tasks = [
        EpisodeTask(scenario.name, scenario, name, config, seed, settings.warmup_s)
        for scenario, item in zip(scenarios, tuned, strict=True)
        for name, config in {REFERENCE: item.config, **agents}.items()
        for seed in evaluation_seeds(settings.seeds)
    ]
    scaled = run_episodes(tasks, out / "evaluation", executor)
    _draw(fixed, scaled, scenarios, settings, out / "stretch-sweep.png")
    parts = [
        "Fixed replica counts, median (extremes) of the seeds; 10000 ms: more than 5 % of the requests failed.",
        _fixed_table(fixed, scenarios, settings),
        "With scaling.",
        tuning_table(tuned),
        _scaled_table(scaled, scenarios, settings),
        run_time([*fixed, *tuning, *scaled]),
    ]
    return "\n\n".join(parts) + "\n"


def stretched(settings: Settings, factor: float) -> Scenario:
    """The scenario with all stretch constants multiplied by `factor`."""
    scenario = load_scenario(settings.scenario, duration=settings.duration_s)
    constants = {name: factor * getattr(scenario.effects, name) for name in STRETCHES}
    return load_scenario(scenario, name=f"stretch {factor:g}", effects=scenario.effects.model_copy(update=constants))


def total_stretch(scenario: Scenario) -> float:
    """Demand of a container of sensitivity 1 on a host at `SHOWN_UTILISATION` in everything, over the undisturbed."""
    return 1.0 + SHOWN_UTILISATION * sum(float(getattr(scenario.effects, name)) for name in STRETCHES)


def _fixed_tasks(settings: Settings, scenarios: Sequence[Scenario]) -> list[EpisodeTask]:
    tasks = []
    for scenario in scenarios:
        for utilisation in settings.utilisations:
            name = _fixed_name(scenario, utilisation)
            one = load_scenario(scenario, name=name, initial_utilisation=utilisation, duration=settings.fixed_s)
            tasks += [
                EpisodeTask(name, one, agent, load_agent_config(agent), seed, settings.fixed_s / 3.0)
                for agent in (BALANCED, SHIFTING)
                for seed in evaluation_seeds(settings.seeds)
            ]
    return tasks


def _fixed_name(scenario: Scenario, utilisation: float) -> str:
    return f"{scenario.name} utilisation {utilisation:g}"


def _of(results: Sequence[EpisodeResult], scenario: str) -> list[EpisodeResult]:
    return [result for result in results if result.scenario == scenario]


def p95_ratios(results: Sequence[EpisodeResult]) -> list[float]:
    """p95 of load shifting over that of load balancing, one value per seed."""
    shifting, balanced = (by_seed(results, agent, "p95_ms") for agent in (SHIFTING, BALANCED))
    return [value / balanced[seed] for seed, value in shifting.items()]


def _fixed_table(results: Sequence[EpisodeResult], scenarios: Sequence[Scenario], settings: Settings) -> str:
    rows = []
    for scenario in scenarios:
        row = [f"{total_stretch(scenario):.2f}"]
        for utilisation in settings.utilisations:
            mine = _of(results, _fixed_name(scenario, utilisation))
            row += [extremes(list(by_seed(mine, agent, "p95_ms").values())) for agent in (BALANCED, SHIFTING)]
            row.append(extremes(p95_ratios(mine), 2))
        rows.append(row)
    columns = [
        f"{name} at {utilisation:g}"
        for utilisation in settings.utilisations
        for name in ("p95 LB, ms,", "p95 LS, ms,", "LS / LB")
    ]
    return table([f"stretch at {SHOWN_UTILISATION:.0%}", *columns], rows)


def _scaled_table(results: Sequence[EpisodeResult], scenarios: Sequence[Scenario], settings: Settings) -> str:
    agents = (REFERENCE, *settings.agents)
    rows = []
    for scenario in scenarios:
        mine = _of(results, scenario.name)
        metrics = {row.agent: row.metrics for row in summarise(mine)}
        row = [f"{total_stretch(scenario):.2f}"]
        row += [cell("containers", metrics[name]["containers"]) for name in agents]
        row += [cell("sla_violation", metrics[name]["sla_violation"]) for name in agents]
        row += [percent(relative_change(mine, name, REFERENCE, "containers")) for name in settings.agents]
        rows.append(row)
    header = [
        f"stretch at {SHOWN_UTILISATION:.0%}",
        *(f"containers {name}" for name in agents),
        *(f"windows > SLA, %, {name}" for name in agents),
        *(f"{name} against {REFERENCE}" for name in settings.agents),
    ]
    return table(header, rows)


def _draw(
    fixed: Sequence[EpisodeResult],
    scaled: Sequence[EpisodeResult],
    scenarios: Sequence[Scenario],
    settings: Settings,
    path: Path,
) -> None:
    figure, axes = new_figure(1, 2, (9.0, 3.6))
    left, right = axes[0]
    x = [total_stretch(scenario) for scenario in scenarios]
    for colour, utilisation in zip(COLOURS, settings.utilisations, strict=False):
        ratios = [median_range(p95_ratios(_of(fixed, _fixed_name(scenario, utilisation)))) for scenario in scenarios]
        draw_points(left, x, ratios, colour, f"initial utilisation {utilisation:g}")
    left.axhline(1.0, color=FAINT, lw=1.0)
    left.set_yscale("log")
    left.set_ylabel("E2E p95, LS / LB (median, extremes)")
    for colour, agent in zip(COLOURS, (REFERENCE, *settings.agents), strict=False):
        containers = [
            mean_interval(list(by_seed(_of(scaled, scenario.name), agent, "containers").values()))
            for scenario in scenarios
        ]
        draw_points(right, x, containers, colour, f"{agent}, tuned" if agent == REFERENCE else agent)
    right.set_ylim(bottom=0.0)
    right.set_ylabel("containers")
    for axis in (left, right):
        axis.set_xlabel(f"demand on a host at {SHOWN_UTILISATION:.0%} / undisturbed")
        axis.set_xticks(np.round(x, 2))
        axis.legend(frameon=False, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    run_from_command_line(__doc__, "runs/stretch-sweep", lambda out, executor: experiment(Settings(), out, executor))
