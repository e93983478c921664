"""Fig. 13(a) of the paper: how fast load shifting alone converges, with fixed replica counts and a static workload.

Run from a checkout: `python scripts/experiments/figure_13a.py`. Section 6.5 reports a near-optimal E2E latency within 6
iterations of 5 s, and a stable load variance within 12. Both agents start from balanced load; the only difference is
that one of them shifts it. The runs go on for longer than that, to see whether what has been reached is kept: a run
whose p95 ends above twice that of balanced load counts as broken down. Since one such run outweighs the others in a
mean, final values and settling are those of the median seed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from imbres_gym.agent import load_agent_config  # noqa: E402
from imbres_gym.evaluation.episode import EpisodeResult  # noqa: E402
from imbres_gym.evaluation.executor import Executor  # noqa: E402
from imbres_gym.evaluation.markdown import table  # noqa: E402
from imbres_gym.evaluation.statistics import mean_interval  # noqa: E402
from imbres_gym.evaluation.task import EpisodeTask  # noqa: E402
from imbres_gym.scenario import load_scenario  # noqa: E402
from scripts.experiments.plotting import COLOURS, FAINT, draw_band, new_figure, save  # noqa: E402
from scripts.experiments.runs import (  # noqa: E402
    evaluation_seeds,
    extremes,
    run_episodes,
    run_from_command_line,
    run_time,
)

Floats = NDArray[np.float64]

BALANCED, SHIFTING = "static", "load-shifting"
LATENCY, VARIANCE = "metrics/p95_ms", "metrics/load_variance"
MEASURES = {LATENCY: ("E2E p95 [ms]", 6), VARIANCE: ("variance of load / mean²", 12)}
"""Series of an episode -> label, and iterations until it has settled in the paper."""
BROKEN_DOWN = 2.0
"""Final p95 over that of balanced load from which on a run counts as broken down."""
TOLERANCES = (0.10, 0.05)
"""Relative distances from the final value that count as settled."""


@dataclass(frozen=True)
class Settings:
    """What is run; the defaults are the experiment.

    Attributes:
        utilisations: initial utilisations; each means another number of containers.
        iterations: control intervals after the first, balanced one.
        shown: the first ones, in the figure.
        final: the last ones, whose mean is the final value.
    """

    scenario: str = "social-network/high-strict"
    utilisations: tuple[float, ...] = (0.35, 0.45, 0.5)
    iterations: int = 60
    shown: int = 20
    final: int = 30
    seeds: int = 10


@dataclass(frozen=True)
class Settled:
    """When a curve arrives at its final value; None: never.

    Attributes:
        first: first iteration within the tolerance.
        stays: first iteration from which on it stays there.
    """

    first: int | None
    stays: int | None

    def __str__(self) -> str:
        return f"{self.first or 'never'} / {self.stays or 'never'}"


def experiment(settings: Settings, out: Path, executor: Executor) -> str:
    """Run both agents at every number of containers; write the figure to `out`; returns the report (Markdown)."""
    results = run_episodes(_tasks(settings), out, executor)
    _draw(results, settings, out / "figure-13a.png")
    parts = [_outcome_table(results, settings), _settling_table(results, settings), run_time(results)]
    return "\n\n".join(parts) + "\n"


def _tasks(settings: Settings) -> list[EpisodeTask]:
    tasks = []
    for utilisation in settings.utilisations:
        scenario = load_scenario(settings.scenario, initial_utilisation=utilisation)
        # The cluster is measured once, under balanced load, before the first decision.
        duration_s = (settings.iterations + 1) * scenario.control_interval_s
        scenario = load_scenario(scenario, name=_name(utilisation), duration=duration_s)
        tasks += [
            EpisodeTask(scenario.name, scenario, agent, load_agent_config(agent), seed, warmup_s=0.0)
            for agent in (BALANCED, SHIFTING)
            for seed in evaluation_seeds(settings.seeds)
        ]
    return tasks


def _name(utilisation: float) -> str:
    return f"utilisation {utilisation:g}"


def curves(results: Sequence[EpisodeResult], utilisation: float, agent: str, series: str) -> Floats:
    """(seeds, iterations) values of one series."""
    chosen = [r for r in results if r.scenario == _name(utilisation) and r.agent == agent]
    return np.array([result.series[series] for result in chosen])


def settle(curve: Floats, final: float, tolerance: float) -> Settled:
    """When a curve (T,), one value per iteration, counted from 1, is within `tolerance * final` of `final`."""
    inside = np.abs(curve - final) <= tolerance * final
    if not inside.any():
        return Settled(None, None)
    outside = np.flatnonzero(~inside)
    stays = int(outside[-1]) + 2 if outside.size else 1
    return Settled(int(np.argmax(inside)) + 1, stays if stays <= len(curve) else None)


def _final(values: Floats, settings: Settings) -> Floats:
    """(seeds,) final values of curves (seeds, iterations)."""
    return np.asarray(values[:, -settings.final :].mean(axis=1))


def _outcome_table(results: Sequence[EpisodeResult], settings: Settings) -> str:
    """What load shifting ends up with, against load balancing with the same seeds."""
    rows = []
    for utilisation in settings.utilisations:
        containers = next(r for r in results if r.scenario == _name(utilisation)).series["containers"][0]
        balanced, shifting = (
            _final(curves(results, utilisation, agent, LATENCY), settings) for agent in (BALANCED, SHIFTING)
        )
        variances = (_final(curves(results, utilisation, agent, VARIANCE), settings) for agent in (BALANCED, SHIFTING))
        broken = int((shifting > BROKEN_DOWN * balanced).sum())
        rows.append(
            [
                f"{utilisation:g}",
                f"{containers}",
                *(extremes(values.tolist()) for values in (balanced, shifting)),
                extremes((100.0 * (shifting / balanced - 1.0)).tolist()),
                f"{broken} of {len(shifting)}",
                *(extremes(values.tolist(), 3) for values in variances),
            ]
        )
    header = ["utilisation", "containers", "p95 LB, ms", "p95 LS, ms", "LS against LB, %", "broken down"]
    return table([*header, "variance LB", "variance LS"], rows)


def _settling_table(results: Sequence[EpisodeResult], settings: Settings) -> str:
    """Iterations until the median curve of load shifting is, and until it stays, near its final value."""
    rows = []
    for utilisation in settings.utilisations:
        for series, (label, paper) in MEASURES.items():
            median = np.median(curves(results, utilisation, SHIFTING, series), axis=0)
            final = float(median[-settings.final :].mean())
            settled = [str(settle(median, final, tolerance)) for tolerance in TOLERANCES]
            rows.append([f"{utilisation:g}, {label}", f"{median[0]:.3g}", f"{final:.3g}", *settled, str(paper)])
    within = [f"within {tolerance:.0%}: first / for good" for tolerance in TOLERANCES]
    return table(["utilisation, measure", "iteration 1", "final", *within, "paper"], rows)


def _draw(results: Sequence[EpisodeResult], settings: Settings, path: Path) -> None:
    figure, axes = new_figure(2, len(settings.utilisations), (3.6 * len(settings.utilisations), 5.4))
    for column, utilisation in enumerate(settings.utilisations):
        for row, (series, (label, paper)) in enumerate(MEASURES.items()):
            axis = axes[row, column]
            for colour, agent, name in zip(COLOURS, (BALANCED, SHIFTING), ("balanced", "shifting"), strict=False):
                values = curves(results, utilisation, agent, series)[:, : settings.shown]
                band = [mean_interval(at.tolist()) for at in values.T]
                draw_band(axis, range(1, len(band) + 1), band, colour, name)
            axis.axvline(paper, color=FAINT, lw=1.0, ls=":", label=f"settled in the paper: {paper}")
            axis.set_ylim(bottom=0.0)
            axis.set_xlabel("iteration (5 s)")
            if column == 0:
                axis.set_ylabel(label)
                axis.legend(frameon=False, fontsize=8, loc="lower right" if row == 0 else "upper left")
        axes[0, column].set_title(f"initial utilisation {utilisation:g}", fontsize=10)
    save(figure, path)


if __name__ == "__main__":
    run_from_command_line(__doc__, "runs/figure-13a", lambda out, executor: experiment(Settings(), out, executor))
