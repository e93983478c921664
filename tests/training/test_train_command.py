from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import run_until, small_recipe, small_run, small_scenario
from typer.testing import CliRunner, Result

from agents.bundle import load_bundle
from imbres_gym.cli import app
from imbres_gym.training.environments import WorkerDied


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


@pytest.mark.filterwarnings("ignore")
def test_the_curve_is_a_table_and_a_tensorboard_log_with_the_tags_of_episodes(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_until(small_run(tmp_path), 20)
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["steps"]) for row in rows] == [0, 10, 20]
    assert rows[0]["training/reward/latency"] == "" and float(rows[1]["training/reward/latency"]) < 0.0

    def tags(log: str) -> Any:
        events = EventAccumulator(str(tmp_path / "tensorboard" / log))
        events.Reload()
        return events

    shared = {
        "reward/total",
        "reward/resource",
        "reward/latency",
        "e2e/p95_ms",
        "e2e/sla_violation",
        "cluster/containers",
    }
    evaluation, training = tags("evaluation"), tags("training")
    assert shared <= set(evaluation.Tags()["scalars"]) & set(training.Tags()["scalars"])
    assert "loss/value_loss" in training.Tags()["scalars"]
    assert [point.step for point in evaluation.Scalars("reward/total")] == [0, 10, 20]
    assert evaluation.Scalars("e2e/p95_ms")[2].value == pytest.approx(
        float(rows[2]["evaluation/metrics/p95_ms"]), rel=1e-5
    )
