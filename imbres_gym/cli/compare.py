"""`imbres-gym compare`: several agents in several scenarios, with believable intervals."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.errors import clear_errors, duration_seconds, resume_command

if TYPE_CHECKING:
    from rich.console import Console

    from imbres_gym.evaluation.comparison import Written
    from imbres_gym.evaluation.episode import EpisodeResult
    from imbres_gym.evaluation.runner import EpisodeFailure, Stored
    from imbres_gym.evaluation.task import EpisodeTask

SOME_FAILED = 1
"""Exit code: at least one episode could not be finished."""


def compare(
    scenarios: Annotated[list[str], typer.Argument(metavar="SCENARIO...", help="Names or YAML files of scenarios.")],
    agents: Annotated[str, typer.Option(help="Names or YAML files of agents, separated by commas.")] = "imbres,hpa",
    seeds: Annotated[int, typer.Option(min=1, help="Episodes per scenario and agent.")] = 5,
    duration: Annotated[
        str | None, typer.Option(help="Length of an episode, such as 90s, 30m or 1h.  [default: the scenario's]")
    ] = None,
    warmup: Annotated[
        str | None,
        typer.Option(help="Start that the summary leaves out.  [default: 5m, at most a quarter of the episode]"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Episodes that run at once.  [default: the number of cores]")
    ] = None,
    engine: Annotated[str, typer.Option(help="Engine of the simulated cluster.")] = "events",
    out: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path("runs/compare"),
    resume: Annotated[bool, typer.Option("--resume", help="Keep finished episodes of the same comparison.")] = False,
) -> None:
    """Run every agent in every scenario over several seeds, and say how they compare.

    Each episode is written as soon as it is finished; Ctrl-C loses none of them. The same command gives the same
    numbers again, whatever the number of workers; only the decision time depends on the machine.
    """
    with clear_errors(f"Finished episodes are in {out / 'episodes'}. Go on with:\n  {resume_command()}"):
        from imbres_gym.evaluation.executor import use_one_thread

        use_one_thread()
        from imbres_gym.evaluation.comparison import prepare_folder
        from imbres_gym.evaluation.runner import Stored, find_stored
        from imbres_gym.evaluation.task import plan_tasks

        tasks = plan_tasks(
            scenarios,
            _split(agents),
            seeds,
            duration_s=duration_seconds(duration, "--duration"),
            warmup_s=duration_seconds(warmup, "--warmup", may_be_zero=True),
            engine=engine,
        )
        prepare_folder(out, resume)
        example = shlex.join(["imbres-gym", "run", _split(agents)[0], scenarios[0]])
        failed = _run_and_report(tasks, find_stored(out, tasks) if resume else Stored({}, []), workers, out, example)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _split(names: str) -> list[str]:
    from imbres_gym.config import ConfigError

    split = [name.strip() for name in names.split(",")]
    if not all(split):
        raise ConfigError(f"--agents: {names!r} has an empty name; write for example imbres,hpa")
    return split


def _run_and_report(tasks: list[EpisodeTask], stored: Stored, workers: int | None, out: Path, example: str) -> bool:
    """Run what is missing with a progress bar, then write and print the summary; says whether anything failed."""
    import os

    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from imbres_gym.cli.notes import first_use_note
    from imbres_gym.evaluation.comparison import write_outputs
    from imbres_gym.evaluation.executor import ProcessExecutor
    from imbres_gym.evaluation.runner import run_tasks

    console = Console(highlight=False)
    for reason in stored.rejected:
        console.print(f"[yellow]not reused, runs again:[/yellow] {escape(reason)}")
    if stored.results:
        console.print(f"{len(stored.results)} of {len(tasks)} episodes are finished already")
    if note := first_use_note():
        console.print(note)
    columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("episodes", total=len(tasks), completed=len(stored.results))

        def on_finished(outcome: EpisodeResult | EpisodeFailure) -> None:
            console.print(_line(outcome), soft_wrap=True)
            progress.advance(bar)

        executor = ProcessExecutor(workers or os.cpu_count() or 1)
        results, failures = run_tasks(tasks, out, executor, on_finished, stored.results)
    if results:
        with console.status("writing figures and TensorBoard logs"):
            written = write_outputs(out, results, failures)
        _conclude(console, written, out, example)
    if failures:
        console.print(f"[red]{len(failures)} of {len(tasks)} episodes failed;[/red] see {out / 'failures'}")
    return bool(failures)


def _line(outcome: EpisodeResult | EpisodeFailure) -> str:
    """One line about a finished episode."""
    from rich.markup import escape

    from imbres_gym.evaluation.episode import EpisodeResult

    if not isinstance(outcome, EpisodeResult):
        return f"[red]failed:[/red] {escape(outcome.title)}: {escape(outcome.message)}"
    settled = outcome.metrics["settled"]
    illegal = int(outcome.series["illegal_actions"].sum())
    note = f" [yellow]{illegal} parts of its actions were illegal[/yellow]" if illegal else ""
    return (
        f"[green]done[/green] {escape(outcome.scenario)} [bold]{escape(outcome.agent)}[/bold] seed {outcome.seed}: "
        f"{settled['containers']:.1f} containers, p95 {settled['p95_ms']:.0f} ms (SLA {outcome.sla_ms:g}), "
        f"{settled['sla_violation']:.0%} of windows violated [dim]in {outcome.wall_s:.1f} s[/dim]{note}"
    )


def _conclude(console: Console, written: Written, out: Path, example: str) -> None:
    """The table, where everything is, and what to look at next."""
    from imbres_gym.evaluation.report import rich_tables

    for table in rich_tables(written.rows):
        console.print(table)
    repeated = any(len(row.seeds) > 1 for row in written.rows)
    shown = "Means over the seeds ± 95 % interval" if repeated else "One seed, so without intervals"
    console.print(
        f"{shown}, after the warm-up. p50, p95 and p99 are of all requests together; a window is above the SLA if the "
        "p95 of any request class is. Fewer containers at few violations is better.\n"
    )
    lines = [
        f"  summary   {written.summary}, {written.table}",
        f"  figures   {out / 'figures'}",
        f"  episodes  {out / 'episodes'}",
        "\nNext:",
    ]
    lines += [f"  load, capacity and SLA over time   {figure}" for figure in written.figures[:1]]
    lines.append(f"  every curve                        tensorboard --logdir {written.tensorboard}")
    lines.append(f"  one agent, live                    {example}")
    console.print("\n".join(lines), soft_wrap=True, markup=False)
