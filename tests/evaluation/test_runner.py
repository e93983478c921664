from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import evaluation_fakes as fakes
import pytest
from same_episode import same_episode

from imbres_gym.config import ConfigError
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.executor import ProcessExecutor, WorkerLost
from imbres_gym.evaluation.runner import EpisodeFailure, find_stored, run_tasks
from imbres_gym.evaluation.storage import CannotWrite, episode_path
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.sim.workload import ReplayWorkload


def run(tasks: list[EpisodeTask], folder: Path, workers: int) -> tuple[list[EpisodeResult], list[EpisodeFailure]]:
    return run_tasks(tasks, folder, ProcessExecutor(workers), lambda outcome: None)


def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    tasks = [fakes.task(seed) for seed in (1000, 1001, 1002)]
    one, _ = run(tasks, tmp_path / "one", 1)
    three, _ = run(tasks, tmp_path / "three", 3)
    assert [r.seed for r in one] == [r.seed for r in three] == [1000, 1001, 1002]
    assert all(same_episode(left, right) for left, right in zip(one, three, strict=True))
    assert not same_episode(one[0], replace(one[1], seed=1000))


def test_a_failing_and_a_dying_episode_cost_no_other_one(tmp_path: Path) -> None:
    tasks = [
        fakes.task(1000, "RaisingAgent", "raising"),
        fakes.task(1000, "ExitingAgent", "exiting"),
        fakes.task(1000, "DyingAgent", "dying"),
        fakes.task(1000),
        fakes.task(1001),
    ]
    results, failures = run(tasks, tmp_path, 1)
    assert [(r.agent, r.seed) for r in results] == [("steady", 1000), ("steady", 1001)]
    assert {f.title: f.message for f in failures} == {
        "tiny/fake raising seed 1000": "RuntimeError: the agent lost its way",
        "tiny/fake exiting seed 1000": "SystemExit: 0",
        "tiny/fake dying seed 1000": "its process died in each of 4 attempts (exit code 3)",
    }
    traceback = (tmp_path / "failures" / "tiny--fake.raising.seed-1000.txt").read_text()
    assert "in predict" in traceback
    assert not episode_path(tmp_path, tasks[0]).exists()


def test_an_episode_whose_process_is_killed_once_runs_again(tmp_path: Path) -> None:
    tasks = [fakes.task(1000, "DyingOnceAgent", file=str(tmp_path / "died"))]
    results, failures = run(tasks, tmp_path, 1)
    assert (tmp_path / "died").exists()
    assert failures == []
    assert [result.seed for result in results] == [1000]


def test_a_worker_that_runs_out_of_memory_is_explained() -> None:
    ((index, lost),) = ProcessExecutor(1).run(fakes.kill_itself, [None])
    hint = "signal 9; the system may have run out of memory: try fewer --workers"
    assert (index, lost) == (0, WorkerLost(hint, attempts=4))


class HereExecutor:
    """Runs everything in this process, and then something of the test's own."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self._then = then

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Generator[tuple[int, Any], None, None]:
        for index, item in enumerate(items):
            result = function(item)
            self._then()
            yield index, result


def test_an_episode_that_ran_with_another_file_than_is_here_is_no_result(tmp_path: Path) -> None:
    file = tmp_path / "rates.txt"
    file.write_text("20\n")
    task = fakes.task(1000)
    replay = task.scenario.model_copy(update={"workload": ReplayWorkload(file=file)})
    elsewhere = HereExecutor(lambda: file.write_text("30\n"))
    results, failures = run_tasks([replace(task, scenario=replay)], tmp_path, elsewhere, lambda outcome: None)
    assert results == []
    assert failures[0].message.startswith("it ran with another scenario than this machine has")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_is_written_stays_whole_when_no_more_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    tasks = [fakes.task(seed) for seed in (1000, 1001, 1002)]
    expected, _ = run_tasks(tasks, tmp_path / "expected", HereExecutor(), lambda outcome: None)
    really, calls = os.fsync, [0]

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(code, os.strerror(code))
        really(descriptor)

    monkeypatch.setattr("os.fsync", full)
    out = tmp_path / "out"
    with pytest.raises(CannotWrite, match=os.strerror(code)) as caught:
        run_tasks(tasks, out, HereExecutor(), lambda outcome: None)
    assert caught.value.filename == str(episode_path(out, tasks[1]))
    assert list((out / "episodes").iterdir()) == [episode_path(out, tasks[0])]

    stored = find_stored(out, tasks)
    assert stored.rejected == []
    assert list(stored.results) == [0]
    results, _ = run_tasks(tasks, out, HereExecutor(), lambda outcome: None, stored.results)
    assert all(same_episode(left, right) for left, right in zip(results, expected, strict=True))


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
