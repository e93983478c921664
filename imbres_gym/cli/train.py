"""`imbres-gym train`: a learned tier from a recipe, interruptible at any time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.errors import clear_errors, resume_command
from imbres_gym.cli.progress import progress_bar
from imbres_gym.training import TRAINING_SEED

if TYPE_CHECKING:
    from rich.console import Console

    from imbres_gym.scenario import Scenario
    from imbres_gym.training.recipe import OwnTrainer, Trainer
    from imbres_gym.training.trainer import TrainingRun

WORKER_DIED = 1
"""Exit code: a process that stepped environments died."""


def train(
    recipe: Annotated[str, typer.Argument(help="Name or YAML file of a recipe: what is trained, and how.")],
    scenario: Annotated[str, typer.Argument(help="Name or YAML file of the scenario to train on.")],
    steps: Annotated[int, typer.Option(min=1, help="Environment steps in all; rounded up to whole segments.")] = 10_000,
    out: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path("runs/train"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that the environments are spread over.")] = 1,
    seed: Annotated[
        int, typer.Option(min=TRAINING_SEED, max=TRAINING_SEED + 999, help="Seed of the run.")
    ] = TRAINING_SEED,
) -> None:
    """Train one tier of an agent, and keep the policy that does best on episodes that no training sees.

    A checkpoint is written after every segment of the recipe; Ctrl-C loses at most one segment, and --resume continues
    the same curve, bit for bit, whatever the number of workers.
    """
    with clear_errors(f"The last checkpoint is in {out / 'checkpoints'}. Go on with:\n  {resume_command()}"):
        from imbres_gym.evaluation.executor import use_one_thread

        use_one_thread()
        from imbres_gym.config import ConfigError
        from imbres_gym.scenario import load_scenario
        from imbres_gym.training.recipe import OwnTrainer, load_recipe

        plan, place = load_recipe(recipe), load_scenario(scenario)
        if isinstance(plan, OwnTrainer):
            _train_own(plan, place, steps, out, resume, seed)
            return
        try:
            from imbres_gym.training.environments import WorkerDied
            from imbres_gym.training.trainer import TrainingRun
        except ModuleNotFoundError as error:
            raise ConfigError(f"training needs {error.name}: pip install 'imbres-gym[rl]'") from None
        try:
            _train(TrainingRun(plan, place, seed, out), steps, workers, resume)
        except WorkerDied as error:
            typer.secho(f"Error: {error}. Go on with:\n  {resume_command()}", fg="red", err=True)
            raise typer.Exit(WORKER_DIED) from None


def _train_own(plan: OwnTrainer, place: Scenario, steps: int, out: Path, resume: bool, seed: int) -> None:
    """Let an agent that brings its own training do it."""
    from rich.console import Console

    from imbres_gym.config import ConfigError
    from imbres_gym.policy import load_object

    if not resume and out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out {out}: is not empty; add --resume to go on with a training, or choose another folder")
    console = Console(highlight=False)
    trainer: Trainer = load_object(plan.trainer, f"recipe {plan.name!r}: trainer")
    try:
        bundle = trainer(
            place, out, steps=steps, seed=seed, say=lambda line: console.print(line, markup=False), **plan.options
        )
    except ModuleNotFoundError as error:
        raise ConfigError(f"training needs {error.name}: pip install 'imbres-gym[rl]'") from None
    except TypeError as error:
        raise ConfigError(f"recipe {plan.name!r}: options: {error}") from error
    console.print(f"  bundle  {bundle}", markup=False, soft_wrap=True)


def _train(run: TrainingRun, steps: int, workers: int, resume: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    from imbres_gym.cli.notes import first_use_note
    from imbres_gym.training.trainer import Watcher, prepare, train

    console = Console(highlight=False)
    start, damaged = prepare(run, resume)
    for reason in damaged:
        console.print(f"[yellow]not used, an earlier one is:[/yellow] {escape(reason)}", soft_wrap=True)
    if start.steps:
        console.print(f"going on after {start.steps} steps")
    if note := first_use_note():
        console.print(note)
    with progress_bar(console, "steps") as bars:
        segments = -(-steps // run.recipe.segment_steps)
        bar = bars.add_task("steps", total=segments * run.recipe.segment_steps, completed=start.steps)

        class Shown(Watcher):
            def on_step(self, steps: int) -> None:
                bars.advance(bar, steps)

            def on_row(self, row: dict[str, float], best: bool) -> None:
                console.print(_line(row, best), soft_wrap=True)

        end = train(run, start, steps, workers, Shown())
    if end.steps == start.steps and start.rows:
        console.print(f"nothing to do: {end.steps} steps are done already; give more --steps to go on")
    _conclude(console, run)


def _line(row: dict[str, float], best: bool) -> str:
    """One line about an early evaluation."""
    value = {name.removeprefix("evaluation/"): number for name, number in row.items()}
    mark = " [green]best so far[/green]" if best else ""
    return (
        f"{int(row['steps']):>8} steps: reward {value['reward']:.4f}, p95 {value['metrics/p95_ms']:.1f} ms, "
        f"{value['metrics/containers']:.1f} containers, {value['metrics/request_violation']:.2%} of requests over the "
        f"SLA{mark}"
    )


def _conclude(console: Console, run: TrainingRun) -> None:
    tier = run.recipe.tier
    lines = [
        f"  best policy  {run.bundle}",
        f"  curve        {run.folder / 'curve.csv'}",
        f"  TensorBoard  tensorboard --logdir {run.folder / 'tensorboard'}",
        "\nUse it in any controller (a file like configs/agents/load-shifting.yaml):",
        f"  {tier}: {{policy: learned, bundle: {run.bundle}}}",
    ]
    console.print("\n".join(lines), soft_wrap=True, markup=False)
