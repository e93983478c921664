"""A training run: segments, early evaluation, checkpoints and the bundle of the best policy so far."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imbres_gym import __version__
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.evaluation.task import scenario_hash
from imbres_gym.scenario import Scenario
from imbres_gym.training.curve import write_curve, write_tensorboard
from imbres_gym.training.environments import MakeEnvironment, make_environments
from imbres_gym.training.export import evaluate, make_network, write_bundle
from imbres_gym.training.learner import Learner, is_finite
from imbres_gym.training.recipe import Recipe
from imbres_gym.training.seeds import segment_seed
from imbres_gym.training.state import Progress, checkpoints, newest_checkpoint, save_checkpoint


@dataclass(frozen=True)
class TrainingRun:
    """What is trained and where it is kept.

    Attributes:
        recipe: how.
        scenario: on what; its duration gives way to the recipe's.
        seed: of the run.
        folder: for everything that is written.
    """

    recipe: Recipe
    scenario: Scenario
    seed: int
    folder: Path

    @property
    def bundle(self) -> Path:
        """Where the best policy is kept."""
        return self.folder / "bundle.zip"

    def identity(self) -> dict[str, Any]:
        """What the curve depends on."""
        return {
            "version": __version__,
            "seed": self.seed,
            "recipe": self.recipe.model_dump(mode="json", exclude={"name", "description"}),
            "scenario": scenario_hash(self.scenario),
        }


class Watcher:
    """Hears of the progress of a run; this one ignores it."""

    def on_step(self, steps: int) -> None:
        """`steps` more environment steps have passed."""

    def on_row(self, row: dict[str, float], best: bool) -> None:
        """An early evaluation is done; `best` so far or not."""


def prepare(run: TrainingRun, resume: bool) -> tuple[Progress, list[str]]:
    """Where to start from: the newest checkpoint that can be read, or nothing.

    Returns:
        The start, and why newer checkpoints cannot be used.

    Raises:
        ConfigError: the folder cannot be written to; it has a training and `resume` is false; that training is
            another one; or none of its checkpoints can be read.
    """
    record = run.folder / "training.json"
    identity = json.dumps(run.identity(), indent=2, sort_keys=True)
    try:
        if not resume and checkpoints(run.folder):  # what ended before its first checkpoint has kept nothing
            raise ConfigError(f"--out {run.folder}: has a training already; add --resume to go on, or choose another")
        if resume and record.exists():
            _refuse_another(run, record)
        else:
            write_atomically(record, identity.encode() + b"\n")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(f"--out {run.folder}: cannot be written to ({error.strerror})") from None
    progress, damaged = newest_checkpoint(run.folder)
    if progress is None and damaged:
        listing = "\n".join(f"  {line}" for line in damaged)
        raise ConfigError(f"--out {run.folder}: no checkpoint can be read; start again in another folder:\n{listing}")
    return progress or Progress(), damaged


def train(run: TrainingRun, start: Progress, steps: int, workers: int, watcher: Watcher) -> Progress:
    """Train until at least `steps` environment steps are done, in whole segments.

    After every segment the folder has the checkpoint, `curve.csv`, the TensorBoard logs and the bundle of the best
    policy; and from the start `untrained.zip`, what the training began with, to compare with. The number of workers
    does not change any of it, and neither does an interruption.

    Raises:
        ConfigError: the scenario or a hyperparameter is wrong, or the policy diverged.
        WorkerDied: a process of the environments is gone; the last checkpoint is kept.
        OSError: something cannot be written; the last checkpoint is kept.
    """
    recipe = run.recipe
    make = MakeEnvironment(recipe, run.scenario, training=True)
    environments = make_environments(make, recipe.environments, workers)
    try:
        progress = start
        if not progress.rows:
            untrained = Learner(recipe, environments, segment_seed(run.seed, 0), {}).state()
            progress = _judge(run, replace(progress, learner=untrained), {}, watcher)
        while progress.steps < steps:
            learner = Learner(recipe, environments, segment_seed(run.seed, progress.segment), progress.learner)
            means = learner.learn(recipe.segment_steps, watcher.on_step)
            progress = replace(
                progress,
                segment=progress.segment + 1,
                steps=progress.steps + recipe.segment_steps,
                learner=learner.state(),
            )
            progress = _judge(run, progress, means, watcher)
        return progress
    finally:
        environments.close()


def _judge(run: TrainingRun, progress: Progress, means: dict[str, float], watcher: Watcher) -> Progress:
    """Evaluate, keep the policy if it is the best, and write everything; the checkpoint last."""
    recipe = run.recipe
    if not is_finite(progress.learner):
        raise ConfigError(
            f"recipe {recipe.name!r}: the training diverged within {progress.steps} steps (its networks are not "
            "finite); lower hyperparameters.learning_rate. The checkpoint before is kept"
        )
    network = make_network(recipe, progress.learner)
    make = MakeEnvironment(recipe, run.scenario, training=False)
    result = evaluate(make, network, recipe.evaluation_episodes)
    row = {"steps": float(progress.steps)}
    row |= {f"evaluation/{name}": value for name, value in result.items()}
    row |= {name if name.startswith("loss/") else f"training/{name}": value for name, value in means.items()}
    best = result["reward"] > progress.best_reward
    if progress.steps == 0:
        write_bundle(run.folder / "untrained.zip", recipe, run.scenario, network, run.seed, 0, row)
    if best:
        write_bundle(run.bundle, recipe, run.scenario, network, run.seed, progress.steps, row)
    rows = (*progress.rows, row)
    write_curve(rows, run.folder / "curve.csv")
    write_tensorboard(rows, run.folder / "tensorboard")
    progress = replace(progress, rows=rows, best_reward=max(progress.best_reward, result["reward"]))
    save_checkpoint(progress, run.folder)
    watcher.on_row(row, best)
    return progress


def _refuse_another(run: TrainingRun, record: Path) -> None:
    try:
        stored = json.loads(record.read_text(encoding="utf-8"))
        different = [key for key, value in json.loads(json.dumps(run.identity())).items() if stored.get(key) != value]
    except (ValueError, AttributeError):
        raise ConfigError(f"{record}: damaged; start again in another folder") from None
    if different:
        raise ConfigError(
            f"--out {run.folder}: is the training of another {', '.join(different)}; "
            "resume it with the same arguments, or choose another folder"
        )
