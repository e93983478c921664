"""`imbres-gym reproduce`: the paper's headline experiment, from tuning to the figures."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imbres_gym.cli.errors import clear_errors
from imbres_gym.cli.options import RayAddress, Workers
from imbres_gym.cli.progress import SOME_FAILED, run_with_progress


class PaperFigure(StrEnum):
    """Figures of the paper that can be reproduced; both come from the same episodes."""

    FIG6 = "fig6"
    FIG7 = "fig7"


def reproduce(
    figure: Annotated[PaperFigure, typer.Argument(help="fig6: containers; fig7: SLA violations.")],
    quick: Annotated[bool, typer.Option("--quick", help="Few short episodes: shows that it runs, no more.")] = False,
    experiment: Annotated[str, typer.Option(help="Name or YAML file of the experiment.")] = "headline",
    workers: Workers = None,
    ray_address: RayAddress = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for everything that is written.  [default: runs/EXPERIMENT]")
    ] = None,
) -> None:
    """Repeat a figure of the paper with our data, and print ours beside the paper's numbers.

    Tunes what the experiment says, runs every episode that the output folder does not have yet, and draws. Stop it with
    Ctrl-C and give the same command again to go on.
    """
    folder = out or Path("runs") / (Path(experiment).stem + ("-quick" if quick else ""))
    command = shlex.join(["imbres-gym", "reproduce", figure.value])
    with clear_errors(f"Finished episodes are in {folder}. Give the same command again ({command} ...) to go on."):
        from imbres_gym.evaluation.executor import use_one_thread

        use_one_thread()
        failed = _reproduce(figure, quick, experiment, workers, ray_address, folder)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _reproduce(
    figure: PaperFigure, quick: bool, name: str, workers: int | None, ray_address: str | None, folder: Path
) -> bool:
    """Run it and print the report; says whether an episode failed."""
    from rich.console import Console
    from rich.markdown import Markdown

    from imbres_gym.evaluation.comparison import prepare_folder
    from imbres_gym.evaluation.executor import make_executor
    from imbres_gym.evaluation.experiment import load_experiment
    from imbres_gym.evaluation.reproduction import TuningFailed, run_experiment, write_reproduction

    chosen = load_experiment(name)
    chosen = chosen.quickened() if quick else chosen
    console = Console(highlight=False)
    executor = make_executor(workers, ray_address)
    prepare_folder(folder / "evaluation", resume=True)
    try:
        outcome = run_experiment(
            chosen, lambda part, tasks: run_with_progress(console, tasks, folder / part, executor, label=part)
        )
    except TuningFailed as error:
        console.print(f"[red]{error};[/red] see {folder / 'tuning' / 'failures'}", soft_wrap=True)
        return True
    if outcome.results:
        with console.status("drawing"):
            written = write_reproduction(chosen, outcome, folder)
        console.print(Markdown(written.reports[figure.value]))
        places = f"figure   {written.figures[figure.value]}\nreport   {written.report}"
        console.print(places, soft_wrap=True, markup=False)
    if outcome.failures:
        everything = len(outcome.results) + len(outcome.failures)
        lost = f"[red]{len(outcome.failures)} of {everything} episodes failed;[/red]"
        console.print(f"{lost} see {folder / 'evaluation' / 'failures'}", soft_wrap=True)
    return bool(outcome.failures)
