from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import run_until, small_recipe, small_run, small_scenario
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner, Result

from agents.bundle import load_bundle
from imbres_gym.cli import app
from imbres_gym.evaluation.tags import step_scalars
from imbres_gym.training.curve import write_tensorboard
from imbres_gym.training.environments import MakeEnvironment, WorkerDied


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A recipe and a scenario as files."""
    recipe, scenario = tmp_path / "recipe.yaml", tmp_path / "place.yaml"
    recipe.write_text(yaml.safe_dump(small_recipe("PPO").model_dump(mode="json")))
    scenario.write_text(yaml.safe_dump(small_scenario().model_dump(mode="json", exclude_none=True)))
    return str(recipe), str(scenario)


def train(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["train", *arguments])


def test_training_from_the_command_line(files: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = train(*files, "--steps", "10", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "best so far" in result.output
    assert f"load: {{policy: learned, bundle: {out / 'bundle.zip'}}}" in result.output.replace("\n", "")
    bundle = load_bundle(out / "bundle.zip")
    assert (bundle.kind, bundle.application, bundle.hosts) == ("load", "small", 2)
    assert bundle.seeds == {"training": 3000, "early_evaluation": 4000}

    again = train(*files, "--steps", "10", "--out", str(out))
    assert again.exit_code == 2 and "add --resume to go on" in again.output
    resumed = train(*files, "--steps", "10", "--out", str(out), "--resume")
    assert resumed.exit_code == 0 and "nothing to do: 10 steps are done already" in resumed.output


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [(KeyboardInterrupt(), 130, "Interrupted. The last checkpoint is in"), (WorkerDied(-9), 1, "try fewer --workers")],
)
def test_what_ends_a_training_says_how_to_resume(
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("imbres_gym.training.trainer.train", fail)
    result = train(*files, "--out", str(tmp_path / "out"))
    assert result.exit_code == code
    assert message in result.output and "--resume" in result.output


def test_wrong_input_is_named(files: tuple[str, str], tmp_path: Path) -> None:
    assert "did you mean 'ppo-load'" in train("ppo-lod", files[1]).output
    assert train(*files, "--seed", "1000").exit_code == 2
    (tmp_path / "file").touch()
    result = train(*files, "--out", str(tmp_path / "file"))
    assert result.exit_code == 2 and "cannot be written to" in result.output


def log(folder: Path) -> EventAccumulator:
    """What TensorBoard reads in a folder."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_a_number_that_there_is_not_is_no_point_in_tensorboard(tmp_path: Path) -> None:
    rows = [{"steps": step, "evaluation/metrics/p95_ms": p95} for step, p95 in ((0.0, 50.0), (10.0, math.nan))]
    write_tensorboard(rows, tmp_path)
    assert [(point.step, point.value) for point in log(tmp_path / "evaluation").Scalars("e2e/p95_ms")] == [(0, 50.0)]


@pytest.mark.filterwarnings("ignore")
def test_the_curve_is_a_table_and_a_tensorboard_log_with_the_tags_of_episodes(tmp_path: Path) -> None:
    run_until(small_run(tmp_path), 20)
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["steps"]) for row in rows] == [0, 10, 20]
    assert rows[0]["training/reward/latency"] == "" and float(rows[1]["training/reward/latency"]) < 0.0

    env = MakeEnvironment(small_recipe("PPO"), small_scenario(), training=False)()
    env.reset(seed=4000)
    of_a_step = set(step_scalars(env.step(env.action_space.sample())[4])) - {"cluster/illegal_actions"}
    evaluation, training = log(tmp_path / "tensorboard/evaluation"), log(tmp_path / "tensorboard/training")
    assert set(evaluation.Tags()["scalars"]) == of_a_step
    losses = set(training.Tags()["scalars"]) - of_a_step
    assert of_a_step <= set(training.Tags()["scalars"])
    assert "loss/value_loss" in losses and all(tag.startswith("loss/") for tag in losses)
    assert [point.step for point in evaluation.Scalars("reward/total")] == [0, 10, 20]
    assert evaluation.Scalars("e2e/p95_ms")[2].value == pytest.approx(
        float(rows[2]["evaluation/metrics/p95_ms"]), rel=1e-5
    )
