"""`imbres-gym replay`: play a recorded episode again, or go on from the middle of it with another agent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.dashboard import Dashboard, keep_and_show, live
from imbres_gym.cli.errors import clear_errors, duration_seconds

if TYPE_CHECKING:
    from imbres_gym.evaluation.recorder import Interval
    from imbres_gym.evaluation.replay import Replay


def replay(
    tape: Annotated[Path, typer.Argument(help="Recorded episode: what `run --record` wrote.")],
    until: Annotated[
        str | None, typer.Option(help="Stop repeating at this time of the episode, such as 90s or 10m.")
    ] = None,
    then: Annotated[
        str | None, typer.Option(help="Name or YAML file of an agent that decides from there to the end.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the episode and its TensorBoard log.")] = Path("runs/replay"),
) -> None:
    """Play a recorded episode again; with --until, stop in the middle; with --then, let another agent go on from there.

    Says whether the repeated part is, number by number, what was recorded.
    """
    with clear_errors("The unfinished episode is not kept; run the same command to start it again."):
        from imbres_gym.evaluation.executor import use_one_thread

        use_one_thread()
        from imbres_gym.evaluation.comparison import prepare_folder
        from imbres_gym.evaluation.replay import plan_replay

        planned = plan_replay(tape, until_s=duration_seconds(until, "--until"), then=then)
        prepare_folder(out, resume=True)
        _play(planned, out)


def _play(planned: Replay, out: Path) -> None:
    from rich.console import Console

    from imbres_gym import __version__
    from imbres_gym.evaluation.episode import run_episode
    from imbres_gym.evaluation.replay import Comparison

    console = Console(highlight=False)
    dashboard, comparison = Dashboard(planned.task), Comparison(planned)

    def watch(interval: Interval) -> None:
        comparison.add(interval)
        dashboard.update(interval)

    with live(console, dashboard):
        result = run_episode(planned.task, watch)
    keep_and_show(console, planned.task, result, out)
    if comparison.differs_at is None:
        console.print(f"  replayed     {planned.steps} actions; everything measured is as it was recorded")
    else:
        console.print(
            f"  [yellow]replayed     not as it was recorded, from action {comparison.differs_at} on[/yellow]: recorded "
            f"with version {planned.tape.version}, this is {__version__}, or on another kind of machine",
            soft_wrap=True,
        )
