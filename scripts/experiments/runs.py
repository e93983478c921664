"""What the experiments share: running episodes with progress, resuming them, and writing tables.

The episodes are run, stored, summarised and drawn by `imbres_gym.evaluation`; an experiment says which ones, and what
follows from them.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from imbres_gym.cli.progress import run_with_progress
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.executor import Executor, ProcessExecutor, WorkerLost, use_one_thread
from imbres_gym.evaluation.report import format_mean, format_spread
from imbres_gym.evaluation.statistics import Estimate, mean_interval
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.evaluation.task import FIRST_SEED, EpisodeTask

Measured = TypeVar("Measured")

REPORT = "report.md"
"""File that an experiment writes its tables to, in its output folder."""


def evaluation_seeds(count: int) -> range:
    """The first seeds that agents are compared on."""
    return range(FIRST_SEED, FIRST_SEED + count)


def run_episodes(tasks: Sequence[EpisodeTask], folder: Path, executor: Executor) -> list[EpisodeResult]:
    """The results of all tasks, in their order; those that `folder` has are not run again.

    Raises:
        SystemExit: an episode failed; its traceback is in `folder/failures`.
    """
    from rich.console import Console

    results, failures = run_with_progress(Console(highlight=False), tasks, folder, executor, label=folder.name)
    if failures:
        raise SystemExit(f"{len(failures)} episodes failed; see {folder / 'failures'}")
    return results


def measure_episodes(
    tasks: Sequence[EpisodeTask], measure: Callable[[EpisodeTask], Measured], executor: Executor
) -> list[Measured]:
    """What `measure` makes of each task, in their order; nothing is kept for another call.

    For measurements that no stored episode has. `measure` must be picklable and must not raise.

    Raises:
        SystemExit: a worker died.
    """
    measured: dict[int, Measured] = {}
    for index, outcome in executor.run(measure, tasks):
        if isinstance(outcome, WorkerLost):
            raise SystemExit(f"{tasks[index].title}: its process died {outcome.attempts} times ({outcome.cause})")
        measured[index] = outcome
        print(f"{tasks[index].title}: {len(measured)} of {len(tasks)} done", flush=True)
    return [measured[index] for index in sorted(measured)]


def run_from_command_line(
    description: str | None,
    folder: str,
    experiment: Callable[[Path, Executor], str],
    full: Callable[[Path, Executor], str] | None = None,
) -> None:
    """Read `--out` and `--workers`, run an experiment, print and keep its report.

    Args:
        description: what `--help` says.
        folder: default of `--out`.
        experiment: called with the output folder and the executor; returns its report (Markdown).
        full: is called instead with `--full`, if there is one, with another default of `--out`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    larger = f", {folder}-full with --full" if full else ""
    parser.add_argument("--out", type=Path, help=f"output folder [default: {folder}{larger}]")
    parser.add_argument("--workers", type=int, default=1, help="episodes that run at once [default: 1]")
    if full:
        parser.add_argument("--full", action="store_true", help="at full size")
    given = parser.parse_args()
    run, default = (full, f"{folder}-full") if full and given.full else (experiment, folder)
    out = given.out or Path(default)
    use_one_thread()
    report = run(out, ProcessExecutor(given.workers))
    write_atomically(out / REPORT, report.encode())
    print(report)


def run_time(results: Sequence[EpisodeResult]) -> str:
    """A line about how long the episodes took, finished ones of earlier calls included."""
    wall_s = sum(result.wall_s for result in results)
    simulated_s = sum(result.duration_s for result in results)
    return (
        f"{len(results)} episodes, {simulated_s / 3600.0:.1f} simulated hours, in {wall_s / 60.0:.1f} minutes of "
        "episode time (machine-dependent)."
    )


def relative_change(results: Sequence[EpisodeResult], agent: str, reference: str, metric: str) -> Estimate:
    """Mean over seeds of `agent`'s metric over that of `reference` less 1, seed by seed, with its interval.

    Raises:
        KeyError: the two were not run on the same seeds.
    """
    ours = by_seed(results, agent, metric)
    theirs = by_seed(results, reference, metric)
    return mean_interval([value / theirs[seed] - 1.0 for seed, value in ours.items()], (-math.inf, math.inf))


def by_seed(results: Sequence[EpisodeResult], agent: str, metric: str) -> dict[int, float]:
    """A settled metric of one agent, by seed."""
    return {result.seed: result.metrics["settled"][metric] for result in results if result.agent == agent}


def percent(estimate: Estimate) -> str:
    """A relative change: "-31 % (-35 to -27)"."""
    low, mean, high = (100.0 * value for value in (estimate.low, estimate.mean, estimate.high))
    return f"{mean:+.0f} %" if low == high else f"{mean:+.0f} % ({low:+.0f} to {high:+.0f})"


def number(estimate: Estimate, digits: int = 2) -> str:
    """A mean with half the width of its interval: "0.41 ± 0.03"."""
    half = max(estimate.high - estimate.mean, estimate.mean - estimate.low)
    return f"{estimate.mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half else "")


def median_range(values: Sequence[float]) -> Estimate:
    """The median with the extremes in place of an interval: for values of which one may outweigh the others."""
    return Estimate(statistics.median(values), min(values), max(values))


def extremes(values: Sequence[float], digits: int = 0) -> str:
    """The median with the extremes: "151 (134 to 8300)"."""
    estimate = median_range(values)
    return f"{estimate.mean:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def cell(metric: str, estimate: Estimate) -> str:
    """A metric of `imbres_gym.evaluation` as its own tables write it, with its interval."""
    return f"{format_mean(metric, estimate)} {format_spread(metric, estimate)}".strip()
