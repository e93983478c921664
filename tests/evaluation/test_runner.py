from __future__ import annotations

import os
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import evaluation_fakes as fakes
import numpy as np
import pytest

from imbres_gym.config import ConfigError
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.executor import ProcessExecutor
from imbres_gym.evaluation.metrics import MACHINE_DEPENDENT
from imbres_gym.evaluation.runner import EpisodeFailure, find_stored, run_tasks
from imbres_gym.evaluation.storage import episode_path
from imbres_gym.evaluation.task import EpisodeTask


def run(tasks: list[EpisodeTask], folder: Path, workers: int) -> tuple[list[EpisodeResult], list[EpisodeFailure]]:
    return run_tasks(tasks, folder, ProcessExecutor(workers), lambda outcome: None)


def comparable(result: EpisodeResult) -> dict[str, float]:
    return {name: value for name, value in result.metrics["settled"].items() if name not in MACHINE_DEPENDENT}


def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    tasks = [fakes.task(seed) for seed in (1000, 1001, 1002)]
    one, _ = run(tasks, tmp_path / "one", 1)
    three, _ = run(tasks, tmp_path / "three", 3)
    assert [r.seed for r in one] == [r.seed for r in three] == [1000, 1001, 1002]
    for left, right in zip(one, three, strict=True):
        assert comparable(left) == comparable(right)
        for name in left.series:
            if not name.startswith("decision_ms"):
                np.testing.assert_array_equal(left.series[name], right.series[name])
    assert comparable(one[0]) != comparable(one[1])


def test_a_failing_and_a_dying_episode_cost_no_other_one(tmp_path: Path) -> None:
    tasks = [
        fakes.task(1000, "RaisingAgent", "raising"),
        fakes.task(1000, "DyingAgent", "dying"),
        fakes.task(1000),
        fakes.task(1001),
    ]
    results, failures = run(tasks, tmp_path, 1)
    assert [(r.agent, r.seed) for r in results] == [("steady", 1000), ("steady", 1001)]
    assert {f.title: f.message for f in failures} == {
        "tiny/fake raising seed 1000": "RuntimeError: the agent lost its way",
        "tiny/fake dying seed 1000": "its process died (exit code 3)",
    }
    traceback = (tmp_path / "failures" / "tiny--fake.raising.seed-1000.txt").read_text()
    assert "in predict" in traceback
    assert not episode_path(tmp_path, tasks[0]).exists()


def test_finished_episodes_are_kept_and_only_the_others_run_again(tmp_path: Path) -> None:
    tasks = [fakes.task(1000), fakes.task(1001)]
    run(tasks[:1], tmp_path, 1)
    written = episode_path(tmp_path, tasks[0]).stat().st_mtime_ns
    stored = find_stored(tmp_path, tasks)
    assert list(stored.results) == [0]
    ran: list[int] = []

    def on_finished(outcome: EpisodeResult | EpisodeFailure) -> None:
        assert isinstance(outcome, EpisodeResult)
        ran.append(outcome.seed)

    results, _ = run_tasks(tasks, tmp_path, ProcessExecutor(1), on_finished, stored.results)
    assert ran == [1001]
    assert [r.seed for r in results] == [1000, 1001]
    assert episode_path(tmp_path, tasks[0]).stat().st_mtime_ns == written


def test_the_first_seed_of_every_agent_runs_first(tmp_path: Path) -> None:
    tasks = [fakes.task(seed, name=name) for name in ("one", "two") for seed in (1000, 1001)]
    ran: list[str] = []

    def on_finished(outcome: EpisodeResult | EpisodeFailure) -> None:
        assert isinstance(outcome, EpisodeResult)
        ran.append(f"{outcome.agent} {outcome.seed}")

    results, _ = run_tasks(tasks, tmp_path, ProcessExecutor(1), on_finished)
    assert ran == ["one 1000", "two 1000", "one 1001", "two 1001"]
    assert [f"{r.agent} {r.seed}" for r in results] == ["one 1000", "one 1001", "two 1000", "two 1001"]


def test_an_option_that_the_agent_does_not_know_stops_everything(tmp_path: Path) -> None:
    tasks = [fakes.task(1000, replica=9), fakes.task(1001)]
    with pytest.raises(ConfigError, match=r"agent 'steady': options: .*replica"):
        run(tasks, tmp_path, 1)


def test_a_configuration_error_names_the_agent(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^agent 'picky': load: cannot be so"):
        run([fakes.task(1000, "PickyAgent", "picky")], tmp_path, 1)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, evaluation_fakes as fakes\n"
        "from imbres_gym.evaluation.executor import ProcessExecutor\n"
        "if __name__ == '__main__':\n"
        "    list(ProcessExecutor(1).run(fakes.note_and_sleep, [sys.argv[1]]))\n"
    )
    (tmp_path / "parent.py").write_text(code)
    note = tmp_path / "pid"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), str(note)], env=environment)
    deadline = time.monotonic() + 60.0
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int(note.read_text())
    parent.kill()
    parent.wait()
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(worker)


def is_running(process: int) -> bool:
    try:
        # A process that has ended stays as a zombie until somebody asks for its exit code.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_stopping_early_ends_the_workers(tmp_path: Path) -> None:
    def stop(outcome: EpisodeResult | EpisodeFailure) -> None:
        raise KeyboardInterrupt

    tasks = [fakes.task(seed) for seed in (1000, 1001, 1002)]
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, tmp_path, ProcessExecutor(2), stop)
    assert active_children() == []
    assert len(list((tmp_path / "episodes").glob("*.npz"))) == 1
