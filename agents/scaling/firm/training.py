"""Training FIRM's agent on one application: episodes, early evaluation, checkpoints that can be resumed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.utils import set_random_seed

from agents.network import Network
from agents.scaling.firm.ddpg import TwoRateDDPG, actor_network, make_learner
from agents.scaling.firm.task import ResizingTask, Score, evaluate
from agents.scaling.firm.vec_env import MicroserviceVecEnv
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.storage import write_atomically

TRANSITIONS = 15_000
"""Iterations of FIRM's one-for-all training (OSDI '20, section 4)."""
STEPS = 30
"""Of an episode: half an hour. FIRM's code has 300; shorter ones see more loads and hosts."""
FIRST_SEED = 3000
"""Episode n is the random scene of seed 3000 + n."""
EVALUATION_SEEDS = (2000, 2001)
"""Scenes of the early evaluation; no training sees them."""
EVALUATE_EVERY = 5_000
"""Transitions between early evaluations; there is one before training and one at the end, too."""


@dataclass(frozen=True)
class CurvePoint:
    """One episode of training.

    Attributes:
        episode: counted from 1; 0 is before training.
        transitions: so far.
        training_reward: mean of the episode, with noise; None before training.
        evaluation: of the actor without noise afterwards, where there was one.
    """

    episode: int
    transitions: int
    training_reward: float | None
    evaluation: Score | None


@dataclass(frozen=True)
class Trained:
    """What training leaves behind: the actor, its curve, and what changing nothing scores in the same scenes."""

    actor: Network
    curve: tuple[CurvePoint, ...]
    static: Score


def train_actor(
    application: str,
    folder: Path,
    *,
    transitions: int = TRANSITIONS,
    steps: int = STEPS,
    seed: int = FIRST_SEED,
    on_point: Callable[[CurvePoint], None] | None = None,
) -> Trained:
    """Train, or go on where an earlier call was interrupted: the result is the same.

    Args:
        application: its name.
        folder: for checkpoints; one that has one of the same training is resumed.
        transitions: at least so many, in whole episodes; each step gives one per microservice.
        steps: of an episode.
        seed: of the first episode and of the learner.
        on_point: called after every episode.

    Raises:
        ConfigError: the folder holds another training, or a damaged checkpoint.
    """
    task = ResizingTask(application, steps)
    per_episode = steps * len(task.info.microservices)
    episodes = math.ceil(transitions / per_episode)
    setting = {"application": application, "steps": steps, "seed": seed}
    learner, curve, static = _resume(folder, setting, task)
    if learner is None:
        learner = make_learner(MicroserviceVecEnv(task, seed), seed)
        static = evaluate(task, None, EVALUATION_SEEDS)
        curve = [CurvePoint(0, 0, None, evaluate(task, actor_network(learner), EVALUATION_SEEDS))]
    for episode in range(len(curve), episodes + 1):
        point = CurvePoint(episode, episode * per_episode, _play(learner, task, seed + episode - 1, per_episode), None)
        if episode == episodes or point.transitions // EVALUATE_EVERY > curve[-1].transitions // EVALUATE_EVERY:
            point = replace(point, evaluation=evaluate(task, actor_network(learner), EVALUATION_SEEDS))
        curve.append(point)
        _checkpoint(folder, setting, learner, curve, static)
        if on_point is not None:
            on_point(point)
    if curve[-1].evaluation is None:  # it was meant to be longer when it was interrupted
        curve[-1] = replace(curve[-1], evaluation=evaluate(task, actor_network(learner), EVALUATION_SEEDS))
        _checkpoint(folder, setting, learner, curve, static)
    task.close()
    return Trained(actor_network(learner), tuple(curve), static)


def _play(learner: TwoRateDDPG, task: ResizingTask, seed: int, transitions: int) -> float:
    """One episode of learning; its mean reward. Seeded anew, so that it does not matter what came before."""
    set_random_seed(seed)
    env = MicroserviceVecEnv(task, seed)
    learner.set_env(env, force_reset=True)
    before = learner.replay_buffer.size() if learner.replay_buffer is not None else 0
    learner.learn(transitions, reset_num_timesteps=False)
    assert learner.replay_buffer is not None
    return float(learner.replay_buffer.rewards[before : learner.replay_buffer.size()].mean())


def _checkpoint(
    folder: Path, setting: dict[str, Any], learner: TwoRateDDPG, curve: list[CurvePoint], static: Score
) -> None:
    """Write a new checkpoint beside the last one, then say that it counts, then remove the last one."""
    name = f"checkpoint-{curve[-1].episode}"
    (folder / name).mkdir(parents=True, exist_ok=True)
    learner.save(folder / name / "learner.zip")
    learner.save_replay_buffer(folder / name / "replay.pkl")
    progress = {**setting, "checkpoint": name, "static": asdict(static), "curve": [asdict(point) for point in curve]}
    write_atomically(folder / "progress.json", json.dumps(progress, indent=1).encode())
    for old in folder.glob("checkpoint-*"):
        if old.name != name:
            shutil.rmtree(old)


def _resume(
    folder: Path, setting: dict[str, Any], task: ResizingTask
) -> tuple[TwoRateDDPG | None, list[CurvePoint], Score]:
    """The learner, the curve and the static score of a checkpoint; no learner where there is none."""
    file = folder / "progress.json"
    if not file.is_file():
        return None, [], Score(0.0, 0.0, 0.0)
    try:
        progress = json.loads(file.read_bytes())
        found = {key: progress.get(key) for key in setting}
        curve = [_point(row) for row in progress["curve"]]
        static = Score(**progress["static"])
        if found == setting:
            checkpoint = folder / progress["checkpoint"]
            learner = TwoRateDDPG.load(checkpoint / "learner.zip", device="cpu")
            learner.load_replay_buffer(checkpoint / "replay.pkl")
    except Exception as error:  # pickle and torch raise anything on damaged files
        raise ConfigError(f"{folder}: damaged checkpoint ({error}); remove the folder to train anew") from error
    if found != setting:
        raise ConfigError(f"{folder}: holds another training ({found}); give another folder or remove it")
    return learner, curve, static


def _point(row: dict[str, Any]) -> CurvePoint:
    evaluation = row["evaluation"]
    return CurvePoint(**{**row, "evaluation": None if evaluation is None else Score(**evaluation)})
