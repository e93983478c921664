"""A run that was interrupted, by whatever, ends as one that was not: bit for bit."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import ALGORITHMS, outcome, run_until, small_run, small_scenario

from imbres_gym.config import ConfigError
from imbres_gym.sim.workload import ReplayWorkload
from imbres_gym.training.state import KEPT, checkpoints, newest_checkpoint
from imbres_gym.training.trainer import Watcher, prepare


class Interrupt(Watcher):
    """Presses Ctrl-C after some steps."""

    def __init__(self, after: int) -> None:
        self._left = after

    def on_step(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module", params=ALGORITHMS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """An algorithm, and what 40 uninterrupted steps (four segments) with it end in."""
    folder = tmp_path_factory.mktemp("whole") / request.param
    run_until(small_run(folder, request.param), 40)
    return request.param, outcome(folder)


def test_a_resumed_run_ends_as_an_uninterrupted_one(whole: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    algorithm, expected = whole
    run = small_run(tmp_path / "run", algorithm)
    run_until(run, 10)
    with pytest.raises(KeyboardInterrupt):
        run_until(run, 40, resume=True, watcher=Interrupt(after=14))  # in the middle of the third segment
    assert run_until(run, 40, resume=True).steps == 40
    assert outcome(tmp_path / "run") == expected


def test_the_curve_starts_before_any_training_and_checkpoints_do_not_pile_up(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    progress = run_until(run, 41)  # rounded up to whole segments
    assert [row["steps"] for row in progress.rows] == [0, 10, 20, 30, 40, 50]
    assert len(checkpoints(tmp_path)) == KEPT
    assert run_until(run, 50, resume=True).steps == 50


def test_a_damaged_checkpoint_costs_a_segment_and_changes_nothing(tmp_path: Path) -> None:
    whole, hurt = small_run(tmp_path / "whole"), small_run(tmp_path / "hurt")
    run_until(whole, 30)
    run_until(hurt, 20)
    newest = checkpoints(hurt.folder)[-1]
    content = newest.read_bytes()
    newest.write_bytes(content[:-100] + b"\0" * 100)
    progress, damaged = newest_checkpoint(hurt.folder)
    assert progress is not None and progress.steps == 10
    assert len(damaged) == 1 and "segment-000002.pt: damaged" in damaged[0]
    run_until(hurt, 30, resume=True)
    assert outcome(hurt.folder) == outcome(whole.folder)


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    run_until(run, 10)
    for path in checkpoints(tmp_path):
        path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no checkpoint can be read; start again in another folder"):
        prepare(run, resume=True)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, run = small_run(tmp_path / "whole"), small_run(tmp_path / "run")
    run_until(whole, 20)
    run_until(run, 10)
    before = outcome(run.folder)

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space left"):
            run_until(run, 20, resume=True)
    assert outcome(run.folder) == before
    run_until(run, 20, resume=True)
    assert outcome(run.folder) == outcome(whole.folder)


def test_a_folder_with_a_training_is_not_overwritten(tmp_path: Path) -> None:
    run_until(small_run(tmp_path), 10)
    with pytest.raises(ConfigError, match="has a training already; add --resume"):
        prepare(small_run(tmp_path), resume=False)
    with pytest.raises(ConfigError, match="is the training of another recipe"):
        prepare(small_run(tmp_path, layers=[4]), resume=True)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(ConfigError, match=r"training\.json: damaged"):
        prepare(small_run(tmp_path), resume=True)


def test_a_training_that_could_not_begin_leaves_its_folder_free(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="refuses"):
        run_until(small_run(tmp_path, hyperparameters={"n_steps": 5, "batch_size": 10, "learning_rate": "fast"}), 10)
    run_until(small_run(tmp_path), 10)
    assert outcome(tmp_path)


def test_another_recording_makes_another_training(tmp_path: Path) -> None:
    """Whatever its name is; the scenario's own duration is not the training's."""
    file = tmp_path / "rates.txt"
    file.write_text("10\n")
    scenario = small_scenario(workload=ReplayWorkload(file=file))
    run = replace(small_run(tmp_path / "run"), scenario=scenario)
    prepare(run, resume=False)
    moved = file.rename(tmp_path / "moved.txt")
    longer = small_scenario(workload=ReplayWorkload(file=moved), duration=990.0)
    prepare(replace(run, scenario=longer), resume=True)
    moved.write_text("20\n")
    with pytest.raises(ConfigError, match="is the training of another scenario"):
        prepare(replace(run, scenario=longer), resume=True)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written to"):
        prepare(small_run(tmp_path / "file"), resume=False)


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    one, two = small_run(tmp_path / "one"), small_run(tmp_path / "two")
    run_until(one, 20)
    run_until(two, 20, workers=2)
    assert outcome(one.folder) == outcome(two.folder)
