"""`imbres-gym profile`: measure how the microservices of an application answer to load and interference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.errors import clear_errors, resume_command
from imbres_gym.cli.progress import SOME_FAILED, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from imbres_gym.profiling.design import Design
    from imbres_gym.profiling.measure import Measurement
    from imbres_gym.profiling.profile import Profile
    from imbres_gym.profiling.runner import RunStore


def profile(
    application: Annotated[
        str, typer.Argument(help="Name of an application, or name or YAML file of a scenario of it.")
    ],
    connections: Annotated[
        str, typer.Option(help="Connections in force: full, or random-10 as the baselines of the paper have.")
    ] = "full",
    out: Annotated[
        Path | None, typer.Option(help="File to write.  [default: runs/profiles/CONNECTIONS/APPLICATION.json.gz]")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at once.  [default: the number of cores]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the finished runs of an unfinished profiling.")
    ] = False,
) -> None:
    """Profile an application on the event engine, as Erms does offline, for Erms, Rhythm and GrandSLAm.

    Each run is kept as soon as it is finished; Ctrl-C loses none of them. Agents take the profiles of
    `configs/profiles`, unless their option `profile` names another file.
    """
    with clear_errors(f"Finished runs are kept. Go on with:\n  {resume_command()}"):
        from imbres_gym.evaluation.executor import use_one_thread

        use_one_thread()
        from imbres_gym.config import ConfigError
        from imbres_gym.profiling.design import design_for
        from imbres_gym.profiling.profile import SUFFIX
        from imbres_gym.profiling.runner import RunStore

        design = design_for(application, connections)
        path = out or Path("runs/profiles") / connections / f"{design.scenario.application.name}{SUFFIX}"
        if path.exists():
            raise ConfigError(f"{path} exists already; choose another --out, or delete it")
        store = RunStore(path.with_name(f"{path.name}.runs"), design.fingerprint(), resume)
        failed = _run_and_write(design, store, workers, path)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _run_and_write(design: Design, store: RunStore, workers: int | None, path: Path) -> bool:
    """Do the missing runs with a progress bar and write the profile; says whether a run failed."""
    from rich.console import Console
    from rich.markup import escape

    from imbres_gym.cli.notes import first_use_note
    from imbres_gym.evaluation.executor import make_executor
    from imbres_gym.profiling.profile import save_profile
    from imbres_gym.profiling.runner import make_profile, run_profiling

    console = Console(highlight=False)
    total = len(design.points) * len(design.seeds)
    if store.finished:
        console.print(f"{len(store.finished)} of {total} runs are finished already")
    if note := first_use_note():
        console.print(note)
    with progress_bar(console, "runs") as progress:
        bar = progress.add_task("runs", total=total, completed=len(store.finished))

        def on_finished(outcome: Measurement | str) -> None:
            if isinstance(outcome, str):
                console.print(f"[red]failed:[/red] {escape(outcome)}", soft_wrap=True)
            progress.advance(bar)

        failures = run_profiling(design, store, make_executor(workers, None), on_finished)
    if failures:
        console.print(f"[red]{len(failures)} of {total} runs failed;[/red] run again with --resume to repeat them")
        return True
    result = make_profile(design, store.finished)
    save_profile(result, path)
    store.remove()
    _conclude(console, result, path)
    return False


def _conclude(console: Console, result: Profile, path: Path) -> None:
    cost = result.cost
    console.print(
        f"{result.application}: {len(result.points.load)} points, {len(result.seeds)} repeats each.\n"
        f"It cost {cost.simulated_hours:.1f} h of cluster time, {cost.container_hours:.0f} container-hours, "
        f"and {cost.cpu_s:.0f} s of processor time.\n\n  profile      {path}",
        soft_wrap=True,
    )
