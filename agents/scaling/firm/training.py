"""Training FIRM's agent on one application: episodes, early evaluation, checkpoints that can be resumed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.utils import set_random_seed

from agents.scaling.firm.ddpg import Learnt, TwoRateDDPG, learnt, make_learner
from agents.scaling.firm.resizing import MIX
from agents.scaling.firm.task import ResizingTask, Score, Units, play, score, units
from agents.scaling.firm.vec_env import MicroserviceVecEnv
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.evaluation.task import scenario_hash
from imbres_gym.scenario import Scenario

TRANSITIONS = 15_000
"""Iterations of FIRM's one-for-all training (OSDI '20, section 4); with transfer from another one, about 2000."""
STEPS = 10
"""Of an episode. FIRM's code has 300; shorter ones see more loads, hosts and starts, and need as long to simulate."""
FIRST_SEED = 3000
"""Episode n is the random scene of seed 3000 + n."""
EVALUATION_SEEDS = (2000, 2001, 2002, 2003)
"""Scenes of the early evaluation, which no learning sees; states and rewards are measured in units of theirs."""
EVALUATE_EVERY = 1_000
"""Transitions between early evaluations; there is one before training and one at the end, too. The actor of the best
one is kept: DDPG goes up and down."""


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
    """What training leaves behind.

    Attributes:
        learnt: networks of the best early evaluation.
        best: that one.
        curve: all points.
        static: what changing nothing scores in the same scenes.
    """

    learnt: Learnt
    best: CurvePoint
    curve: tuple[CurvePoint, ...]
    static: Score


def train_actor(
    bases: Sequence[Scenario],
    folder: Path,
    *,
    transitions: int = TRANSITIONS,
    steps: int = STEPS,
    seed: int = FIRST_SEED,
    start: Learnt | None = None,
    on_point: Callable[[CurvePoint], None] | None = None,
) -> Trained:
    """Train, or go on where an earlier call was interrupted: the result is the same.

    Args:
        bases: scenarios of the application, see `agents.scaling.firm.scenes.bases_of`.
        folder: for checkpoints; one that has one of the same training is resumed.
        transitions: at least so many, in whole episodes; each step gives one per microservice.
        steps: of an episode.
        seed: of the first episode and of the learner.
        start: what another application left behind, to go on from (FIRM's transfer learning).
        on_point: called after every episode.

    Raises:
        ConfigError: the folder holds another training, or a damaged checkpoint.
    """
    task = ResizingTask(bases, steps)
    per_episode = steps * len(task.info.microservices)
    episodes = math.ceil(transitions / per_episode)
    setting = {
        "scenarios": [scenario_hash(base) for base in bases],
        "steps": steps,
        "seed": seed,
        "start": start and start.digest(),
    }
    run = _resume(folder, setting)
    if run is None:
        run = _begin(task, seed, start)
        _checkpoint(folder, setting, run)
    for episode in range(len(run.curve), episodes + 1):
        reward = _learn(run, task, seed + episode - 1, per_episode)
        point = CurvePoint(episode, episode * per_episode, reward, None)
        if episode == episodes or point.transitions // EVALUATE_EVERY > run.curve[-1].transitions // EVALUATE_EVERY:
            point = replace(point, evaluation=_evaluate(run, task))
        run.curve.append(point)
        _checkpoint(folder, setting, run)
        if on_point is not None:
            on_point(point)
    if run.curve[-1].evaluation is None:  # it was meant to be longer when it was interrupted
        run.curve[-1] = replace(run.curve[-1], evaluation=_evaluate(run, task))
        _checkpoint(folder, setting, run)
    task.close()
    best = TwoRateDDPG.load(folder / _name(run.curve[-1]) / "best.zip", device="cpu")
    return Trained(learnt(best, run.units), _best(run.curve), tuple(run.curve), run.static)


@dataclass(frozen=True, eq=False)
class _Run:
    """A training under way; `curve` grows, and `learner` learns."""

    learner: TwoRateDDPG
    units: Units
    static: Score
    curve: list[CurvePoint]


def _begin(task: ResizingTask, seed: int, start: Learnt | None) -> _Run:
    """Units from what changing nothing leads to, and the score of the actor before training."""
    steps = play(task, None, EVALUATION_SEEDS)
    measured = units(steps)
    if start is not None:
        # The networks know the units of their training; only the request classes are others here.
        measured = replace(
            start.units, mean=(*start.units.mean[: MIX.start], *measured.mean[MIX], *start.units.mean[MIX.stop :])
        )
    run = _Run(make_learner(MicroserviceVecEnv(task, seed, measured), seed, start), measured, score(steps), [])
    run.curve.append(CurvePoint(0, 0, None, _evaluate(run, task)))
    return run


def _evaluate(run: _Run, task: ResizingTask) -> Score:
    return score(play(task, learnt(run.learner, run.units).actor, EVALUATION_SEEDS))


def _learn(run: _Run, task: ResizingTask, seed: int, transitions: int) -> float:
    """One episode of learning; its mean reward. Seeded anew, so that it does not matter what came before."""
    set_random_seed(seed)
    run.learner.set_env(MicroserviceVecEnv(task, seed, run.units), force_reset=True)
    buffer = run.learner.replay_buffer
    assert buffer is not None
    before = buffer.pos
    run.learner.learn(transitions, reset_num_timesteps=False)
    # Where the buffer ends it goes on from its start.
    written = before + np.arange((buffer.pos - before) % buffer.buffer_size)
    paid = buffer.rewards[written % buffer.buffer_size]
    return float(paid.mean()) * run.units.reward_deviation + run.units.reward_mean


def _checkpoint(folder: Path, setting: dict[str, Any], run: _Run) -> None:
    """Write a new checkpoint beside the last one, then say that it counts, then remove the last one."""
    name = _name(run.curve[-1])
    (folder / name).mkdir(parents=True, exist_ok=True)
    run.learner.save(folder / name / "learner.zip")
    for other in folder.glob("checkpoint-*/best.zip"):
        if other.parent.name != name:
            shutil.copy(other, folder / name / "best.zip")
    if _best(run.curve) is run.curve[-1]:
        run.learner.save(folder / name / "best.zip")
    run.learner.save_replay_buffer(folder / name / "replay.pkl")
    measured = {
        "units": asdict(run.units),
        "static": asdict(run.static),
        "curve": [asdict(point) for point in run.curve],
    }
    write_atomically(
        folder / "progress.json", json.dumps({**setting, "checkpoint": name, **measured}, indent=1).encode()
    )
    for old in folder.glob("checkpoint-*"):
        if old.name != name:
            shutil.rmtree(old)


def _name(point: CurvePoint) -> str:
    return f"checkpoint-{point.episode}"


def _best(curve: list[CurvePoint]) -> CurvePoint:
    """The best early evaluation, the first of equals."""
    return max(curve, key=_reward)


def _reward(point: CurvePoint) -> float:
    return -np.inf if point.evaluation is None else point.evaluation.reward


def _resume(folder: Path, setting: dict[str, Any]) -> _Run | None:
    """What a checkpoint holds; None where there is none."""
    file = folder / "progress.json"
    if not file.is_file():
        return None
    try:
        progress = json.loads(file.read_bytes())
        found = {key: progress.get(key) for key in setting}
        measured = Units(**{key: _as_tuple(value) for key, value in progress["units"].items()})
        curve = [_point(row) for row in progress["curve"]]
        static = Score(**progress["static"])
        checkpoint = folder / progress["checkpoint"]
        learner = TwoRateDDPG.load(checkpoint / "learner.zip", device="cpu")
        learner.load_replay_buffer(checkpoint / "replay.pkl")
    except Exception as error:  # pickle and torch raise anything on damaged files
        raise ConfigError(f"{folder}: damaged checkpoint ({error}); remove the folder to train anew") from error
    if found != setting:
        raise ConfigError(f"{folder}: holds another training ({found}); give another folder or remove it")
    return _Run(learner, measured, static, curve)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _point(row: dict[str, Any]) -> CurvePoint:
    evaluation = row["evaluation"]
    return CurvePoint(**{**row, "evaluation": None if evaluation is None else Score(**evaluation)})
