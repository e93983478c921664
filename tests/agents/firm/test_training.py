"""Training FIRM: interrupted and resumed is the same; checkpoints that do not fit; what a bundle holds."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import make_info
from firm_fakes import small_scene
from numpy.typing import NDArray

from agents.bundle import load_bundle
from agents.scaling.firm import training
from agents.scaling.firm.ddpg import learnt, make_learner
from agents.scaling.firm.policy import FirmScaling
from agents.scaling.firm.recipe import train_firm
from agents.scaling.firm.task import ResizingTask, Score, Transition, Units, play, score, units
from agents.scaling.firm.training import CurvePoint, Trained, train_actor
from agents.scaling.firm.vec_env import MicroserviceVecEnv
from imbres_gym.config import ConfigError
from imbres_gym.scenario import Scenario, load_scenario

STEPS = 6
SMALL = (small_scene((), 0, 600.0),)
CPU = 5  # column of the states
PLAIN = Units((0.0,) * 9, (1.0,) * 9, 0.0, 1.0)


class Guess:
    """A task whose reward is largest where the action is what the state shows: 1 - (a - (2 u - 1))^2."""

    def __init__(self) -> None:
        self.info = make_info(microservices=10)

    def reset(self, seed: int) -> NDArray[np.float32]:
        self._rng, self._step = np.random.default_rng(seed), 0
        return self._show()

    def step(self, actions: NDArray[np.floating]) -> Transition:
        self._step += 1
        rewards = 1.0 - (actions - (2.0 * self._shown[:, CPU] - 1.0)) ** 2
        return Transition(self._show(), rewards, self._step == 50, 0, False)

    def _show(self) -> NDArray[np.float32]:
        self._shown = np.zeros((10, 9), np.float32)
        self._shown[:, CPU] = self._rng.random(10)
        return self._shown


@pytest.fixture(autouse=True)
def small_training(small_application: tuple[Scenario, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EVALUATION_SEEDS", (2000,))
    monkeypatch.setattr("agents.scaling.firm.ddpg.WARM_UP", 4)


def train(folder: Path, episodes: int = 2) -> Trained:
    return train_actor(SMALL, folder, transitions=episodes * STEPS * 2, steps=STEPS)


def test_microservices_are_environments_that_share_a_cluster() -> None:
    task = ResizingTask(SMALL, STEPS)
    env = MicroserviceVecEnv(task, 3000, PLAIN)
    assert env.num_envs == 2
    seen = env.reset()
    assert isinstance(seen, np.ndarray) and seen.shape == (2, 9)
    for step in range(1, STEPS + 1):
        seen, rewards, over, _ = env.step(np.array([[1.0], [-1.0]], np.float32))
        assert isinstance(seen, np.ndarray) and env.observation_space.contains(seen[0])
        assert over.tolist() == [step == STEPS] * 2
        assert np.all((rewards >= 0.0) & (rewards <= 3.0))
    assert seen[:, 8].tolist() == pytest.approx([1.0, 1 / 6])  # six is the most, one the least
    env.close()


def test_units_by_hand() -> None:
    steps = [
        Transition(np.full((2, 9), value, np.float32), np.array([value, 2.0 * value]), False, 4, False)
        for value in (1.0, 3.0)
    ]
    measured = units(steps)
    # States 1, 1, 3, 3; rewards 1, 2, 3, 6, with the mean 3 and the deviation sqrt((4 + 1 + 0 + 9) / 4).
    assert measured.mean == (2.0,) * 9 and measured.deviation == (1.0,) * 9
    assert measured.reward_mean == 3.0 and measured.reward_deviation == pytest.approx(3.5**0.5)
    assert score(steps) == Score(reward=3.0, containers=4.0, violations=0.0)
    # What never varies is not blown up.
    assert set(units(steps[:1]).deviation) == {0.05}


def test_the_numpy_actor_is_the_learners() -> None:
    half = replace(PLAIN, mean=(0.5,) * 9, deviation=(0.2,) * 9)
    env = MicroserviceVecEnv(ResizingTask(SMALL, STEPS), 3000, half)
    learner = make_learner(env, 3000, None)
    seen = np.random.default_rng(0).random((5, 9), np.float32)
    expected, _ = learner.predict((seen - 0.5) / 0.2, deterministic=True)
    assert learnt(learner, half).actor.forward(seen) == pytest.approx(expected, abs=1e-6)
    assert np.all(np.abs(expected) < 0.05)  # an untrained actor hardly changes anything
    other = make_learner(env, 3001, learnt(learner, half))
    assert learnt(other, half).digest() == learnt(learner, half).digest()
    env.close()


def test_an_interrupted_training_goes_on_to_the_same_result(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    assert [point.transitions for point in whole.curve] == [0, 12, 24]
    assert whole.curve[0].evaluation is not None and whole.curve[-1].evaluation is not None

    class Interrupted(Exception):
        pass

    def interrupt(point: CurvePoint) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        train_actor(SMALL, tmp_path / "part", transitions=24, steps=STEPS, on_point=interrupt)
    resumed = train(tmp_path / "part")
    assert resumed.curve == whole.curve
    assert resumed.best == whole.best
    assert resumed.best.evaluation is not None
    rewards = [point.evaluation.reward for point in whole.curve if point.evaluation is not None]
    assert resumed.best.evaluation.reward == max(rewards)
    assert resumed.learnt.digest() == whole.learnt.digest()
    assert resumed.static == whole.static
    assert len(list((tmp_path / "part").glob("checkpoint-*"))) == 1


def test_the_reward_of_an_episode_does_not_depend_on_the_room_for_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is learnt from here, so the rewards are the same; room for 8 of the 18 steps, so that it is full."""
    monkeypatch.setattr("agents.scaling.firm.ddpg.WARM_UP", 1000)
    plenty = train(tmp_path / "plenty", episodes=3)
    monkeypatch.setattr("agents.scaling.firm.ddpg.REPLAY", 16)
    little = train(tmp_path / "little", episodes=3)
    rewards = [point.training_reward for point in little.curve]
    assert rewards == [point.training_reward for point in plenty.curve]
    assert len({reward for reward in rewards if reward is not None}) == 3


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    trained = train(tmp_path, episodes=1)
    with pytest.raises(ConfigError, match="another training"):
        train_actor(SMALL, tmp_path, transitions=12, steps=STEPS, start=trained.learnt)
    with pytest.raises(ConfigError, match="another training"):
        train_actor(SMALL, tmp_path, transitions=12, steps=STEPS, seed=3001)
    with pytest.raises(ConfigError, match="another training"):
        train_actor([load_scenario(SMALL[0], engine="fluid")], tmp_path, transitions=12, steps=STEPS)
    for file in ("checkpoint-1/learner.zip", "progress.json"):
        (tmp_path / file).write_bytes(b"damaged")
        with pytest.raises(ConfigError, match="damaged"):
            train(tmp_path)


def test_changing_nothing_keeps_the_containers() -> None:
    task = ResizingTask(SMALL, STEPS)
    steps = play(task, None, (2000,))
    assert [step.over for step in steps] == [False] * (STEPS - 1) + [True]
    assert {step.containers for step in steps} == {task.info.initial_replicas.sum()}
    task.close()


def test_a_bundle_and_its_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.scaling.firm.recipe.STEPS", STEPS)
    bundle = train_firm(SMALL[0], tmp_path, transitions=12, samples=100)
    with (tmp_path / "firm-small-curve.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["actor"] for row in rows] == ["firm", "firm", "static"]
    best = max(float(row["evaluation_reward"]) for row in rows[:2])
    assert best == pytest.approx(bundle.metrics["trained/reward"], abs=1e-4)
    loaded = load_bundle(tmp_path / "firm-small.zip")
    assert loaded.application == "small" and loaded.microservices == ("front", "back")
    assert loaded.metrics == bundle.metrics
    FirmScaling(bundle=str(tmp_path / "firm-small.zip"))
    after = train_firm(SMALL[0], tmp_path / "transfer", transitions=12, samples=100, start=loaded)
    assert after.recipe["start"] == "small"
    assert after.metrics["before/reward"] == loaded.metrics["trained/reward"]  # it goes on where that one ended
    samples = tmp_path / "firm-small" / "samples.npz"
    stored = samples.read_bytes()
    train_firm(SMALL[0], tmp_path, transitions=12, samples=100)
    assert samples.read_bytes() == stored
    train_firm(SMALL[0], tmp_path, transitions=12, samples=100, trace_sampling=0.9)
    assert samples.read_bytes() != stored, "they are of other traces"
    with pytest.raises(ConfigError, match="start"):
        train_firm(SMALL[0], tmp_path / "foreign", transitions=12, samples=100, start=replace(loaded, recipe={}))
    with pytest.raises(ConfigError, match="samples"):
        train_firm(SMALL[0], tmp_path / "few", transitions=12, samples=20)


def test_it_learns_a_known_optimum() -> None:
    task = Guess()
    measured = Units((0.5,) * 9, (0.3,) * 9, 0.3, 0.6)
    learner = make_learner(MicroserviceVecEnv(task, 3000, measured), 3000, None)  # type: ignore[arg-type]
    for seed in range(3000, 3004):
        learner.set_env(MicroserviceVecEnv(task, seed, measured), force_reset=True)  # type: ignore[arg-type]
        learner.learn(500, reset_num_timesteps=False)
    shown = np.zeros((5, 9), np.float32)
    shown[:, CPU] = [0.1, 0.3, 0.5, 0.7, 0.9]
    actions = learnt(learner, measured).actor.forward(shown)[:, 0]
    assert actions.tolist() == pytest.approx([-0.8, -0.4, 0.0, 0.4, 0.8], abs=0.25)
