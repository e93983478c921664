"""Running many episodes with a progress bar and a line for each that ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from imbres_gym.evaluation.episode import EpisodeResult
    from imbres_gym.evaluation.executor import Executor
    from imbres_gym.evaluation.runner import EpisodeFailure
    from imbres_gym.evaluation.task import EpisodeTask

SOME_FAILED = 1
"""Exit code: at least one episode, run or search could not be finished."""


def progress_bar(console: Console, label: str) -> Progress:
    """A bar with how many are done, the time that has passed, and the time that is left; it goes when it ends."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def run_with_progress(
    console: Console,
    tasks: Sequence[EpisodeTask],
    folder: Path,
    executor: Executor,
    *,
    resume: bool = True,
    label: str = "episodes",
) -> tuple[list[EpisodeResult], list[EpisodeFailure]]:
    """Run what `folder` does not have yet, and say what happens.

    Args:
        console: to write to.
        tasks: the episodes.
        folder: output folder of the runner.
        executor: runs them.
        resume: whether finished episodes of the same tasks are kept.
        label: of the progress bar.

    Returns:
        See `imbres_gym.evaluation.runner.run_tasks`.

    Raises:
        ConfigError: a configuration turned out to be wrong when it was used.
    """
    from rich.markup import escape

    from imbres_gym.cli.notes import first_use_note
    from imbres_gym.evaluation.runner import Stored, find_stored, run_tasks

    stored = find_stored(folder, tasks) if resume else Stored({}, [])
    for reason in stored.rejected:
        console.print(f"[yellow]not reused, runs again:[/yellow] {escape(reason)}")
    if stored.results:
        console.print(f"{len(stored.results)} of {len(tasks)} {label} are finished already")
    if note := first_use_note():
        console.print(note)
    with progress_bar(console, label) as progress:
        bar = progress.add_task(label, total=len(tasks), completed=len(stored.results))

        def on_finished(outcome: EpisodeResult | EpisodeFailure) -> None:
            console.print(_line(outcome), soft_wrap=True)
            progress.advance(bar)

        return run_tasks(tasks, folder, executor, on_finished, stored.results)


def _line(outcome: EpisodeResult | EpisodeFailure) -> str:
    """One line about a finished episode."""
    from rich.markup import escape

    from imbres_gym.evaluation.episode import EpisodeResult
    from imbres_gym.evaluation.recorder import illegal_parts

    if not isinstance(outcome, EpisodeResult):
        return f"[red]failed:[/red] {escape(outcome.title)}: {escape(outcome.message)}"
    settled = outcome.metrics["settled"]
    illegal = illegal_parts(outcome.series)
    note = f" [yellow]{illegal}[/yellow]" if illegal else ""
    return (
        f"[green]done[/green] {escape(outcome.scenario)} [bold]{escape(outcome.agent)}[/bold] seed {outcome.seed}: "
        f"{settled['containers']:.1f} containers, p95 {settled['p95_ms']:.0f} ms (SLA {outcome.sla_ms:g}), "
        f"{settled['sla_violation']:.0%} of windows violated [dim]in {outcome.wall_s:.1f} s[/dim]{note}"
    )
