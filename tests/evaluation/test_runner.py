from __future__ import annotations

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


def test_an_option_that_the_agent_does_not_know_stops_everything(tmp_path: Path) -> None:
    tasks = [fakes.task(1000, replica=9), fakes.task(1001)]
    with pytest.raises(ConfigError, match=r"agent 'steady': options: .*replica"):
        run(tasks, tmp_path, 1)


def test_stopping_early_ends_the_workers(tmp_path: Path) -> None:
    def stop(outcome: EpisodeResult | EpisodeFailure) -> None:
        raise KeyboardInterrupt

    tasks = [fakes.task(seed) for seed in (1000, 1001, 1002)]
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, tmp_path, ProcessExecutor(2), stop)
    assert active_children() == []
    assert len(list((tmp_path / "episodes").glob("*.npz"))) == 1
