"""`imbres-gym run`: watch one agent in one scenario."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.dashboard import Dashboard, keep_and_show, live
from imbres_gym.cli.errors import clear_errors, duration_seconds

if TYPE_CHECKING:
    from imbres_gym.evaluation.task import EpisodeTask


def run(
    agent: Annotated[str, typer.Argument(help="Name or YAML file of an agent.")],
    scenario: Annotated[str, typer.Argument(help="Name or YAML file of a scenario.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Seed.  [default: the first of `compare`]")] = None,
    duration: Annotated[
        str | None, typer.Option(help="Length of the episode, such as 90s, 30m or 1h.  [default: the scenario's]")
    ] = None,
    warmup: Annotated[
        str | None,
        typer.Option(help="Start that the metrics leave out.  [default: 5m, at most a quarter of the episode]"),
    ] = None,
    engine: Annotated[str, typer.Option(help="Engine of the simulated cluster.")] = "events",
    record: Annotated[
        bool, typer.Option("--record", help="Keep every action, too, so that `replay` can play the episode again.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the episode and its TensorBoard log.")] = Path("runs/run"),
) -> None:
    """Run one agent in one scenario and show what happens, control interval by control interval."""
    with clear_errors("The unfinished episode is not kept; run the same command to start it again."):
        from imbres_gym.evaluation.executor import use_one_thread

        use_one_thread()
        from dataclasses import replace

        from imbres_gym.evaluation.comparison import prepare_folder
        from imbres_gym.evaluation.task import plan_tasks

        (task,) = plan_tasks(
            [scenario],
            [agent],
            1,
            duration_s=duration_seconds(duration, "--duration"),
            warmup_s=duration_seconds(warmup, "--warmup", may_be_zero=True),
            engine=engine,
        )
        prepare_folder(out, resume=True)
        _play(task if seed is None else replace(task, seed=seed), record, out)


def _play(task: EpisodeTask, record: bool, out: Path) -> None:
    from rich.console import Console

    from imbres_gym.cli.notes import first_use_note
    from imbres_gym.evaluation.episode import run_episode
    from imbres_gym.evaluation.tape import TapeRecorder, save_tape

    console = Console(highlight=False)
    dashboard = Dashboard(task)
    recorder = TapeRecorder(task) if record else None
    if note := first_use_note():
        console.print(note)
    with live(console, dashboard):
        result = run_episode(task, dashboard.update, recorder.add if recorder else None)
    keep_and_show(console, task, result, out)
    if recorder:
        tape = out / "tapes" / f"{task.file_stem}.npz"
        save_tape(recorder.tape(), tape)
        console.print(f"  every action imbres-gym replay {tape}", soft_wrap=True)
