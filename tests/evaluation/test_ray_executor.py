"""Rollouts on a real Ray cluster of two nodes on this machine, in which workers, nodes and drivers are killed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import evaluation_fakes as fakes
import pytest
from same_episode import same_episode

from imbres_gym.config import ConfigError
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.executor import ProcessExecutor
from imbres_gym.evaluation.ray_executor import RayExecutor
from imbres_gym.evaluation.runner import EpisodeFailure, find_stored, run_tasks
from imbres_gym.evaluation.task import EpisodeTask

TOKEN = secrets.token_hex(32)
"""Of the test's clusters; it also marks all their processes, by its place in their environment."""

DRIVER = """
import sys
from pathlib import Path
import evaluation_fakes as fakes
from imbres_gym.evaluation.ray_executor import RayExecutor
from imbres_gym.evaluation.runner import run_tasks

address, out, folder = sys.argv[1:]
tasks = [fakes.task(seed, "WaitingAgent", folder=folder) for seed in (1000, 1001)]
run_tasks(tasks, Path(out), RayExecutor(address), lambda outcome: None)
"""


def processes_of_the_cluster() -> list[str]:
    """Command lines of all processes that were started for the cluster and still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marked = TOKEN.encode() in (process / "environ").read_bytes()
            command = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended meanwhile, or is not ours
        # Python's own helper, which lives as long as these tests, inherits their environment.
        if marked and int(process.name) != os.getpid() and "multiprocessing.resource_tracker" not in command:
            found.append(command)
    return found


def wait_until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill_with_children(process: int) -> None:
    """Kill a process at once, then all that it started, as if the power went."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    for victim in (process, *map(int, children)):
        os.kill(victim, signal.SIGKILL)


def notes(folder: Path) -> list[tuple[int, str]]:
    """Process and node of each waiting agent."""
    texts = [file.read_text() for file in folder.glob("*.note")]
    return [(int(text.split()[0]), text.split()[1]) for text in texts if text.endswith("\n")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Ray notices a dead node after five missed signs of life: after 2.5 s instead of 15 s.
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        from ray.cluster_utils import Cluster

        two_nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        two_nodes.add_node(num_cpus=1)
        yield two_nodes
        two_nodes.shutdown()
        deadline = time.monotonic() + 20.0
        while (left := processes_of_the_cluster()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []


def start_driver(cluster: Any, out: Path, folder: Path) -> subprocess.Popen[bytes]:
    """A process of its own that runs two episodes, of which the second waits for the file `go` in `folder`."""
    (folder / "driver.py").write_text(DRIVER)
    return subprocess.Popen([sys.executable, str(folder / "driver.py"), cluster.address, str(out), str(folder)])


def run(
    tasks: list[EpisodeTask], folder: Path, cluster: Any, stored: dict[int, EpisodeResult] | None = None
) -> tuple[list[EpisodeResult], list[EpisodeFailure]]:
    return run_tasks(tasks, folder, RayExecutor(cluster.address), lambda outcome: None, stored)


def test_results_do_not_depend_on_the_executor(cluster: Any, tmp_path: Path) -> None:
    tasks = [fakes.task(seed) for seed in (1000, 1001, 1002)]
    there, failures = run(tasks, tmp_path / "ray", cluster)
    assert failures == []
    assert [result.seed for result in there] == [1000, 1001, 1002]
    for workers in (1, 2):
        here, _ = run_tasks(tasks, tmp_path / str(workers), ProcessExecutor(workers), lambda outcome: None)
        assert all(same_episode(left, right) for left, right in zip(here, there, strict=True))
    # Arrays of Ray's own would be views of its memory, which is gone when the run is over.
    assert all(array.flags.writeable for array in there[0].series.values())


def test_an_episode_runs_again_if_its_worker_is_killed_but_not_if_it_fails_and_not_for_ever(
    cluster: Any, tmp_path: Path
) -> None:
    tasks = [
        fakes.task(1000, "DyingOnceAgent", "unlucky", file=str(tmp_path / "died")),
        fakes.task(1000, "RaisingAgent", "raising"),
        fakes.task(1000, "ExitingAgent", "exiting"),
        fakes.task(1000, "DyingAgent", "dying"),
    ]
    results, failures = run(tasks, tmp_path, cluster)
    assert (tmp_path / "died").exists()
    assert [result.agent for result in results] == ["unlucky"]
    assert {failure.title: failure.message for failure in failures} == {
        "tiny/fake raising seed 1000": "RuntimeError: the agent lost its way",
        "tiny/fake exiting seed 1000": "SystemExit: 0",
        "tiny/fake dying seed 1000": "its process died in each of 4 attempts (WorkerCrashedError)",
    }


def test_a_node_with_other_code_stops_the_run(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "imbres_gym.evaluation.ray_executor.describe_installation", lambda: {"Python": "2.7", "code of agents": "0"}
    )
    with pytest.raises(ConfigError, match=r"another installation than this machine: Python is 3.*, not 2\.7, code of"):
        run([fakes.task(1000)], tmp_path, cluster)


def test_closing_ends_the_tasks_of_an_existing_cluster(cluster: Any, tmp_path: Path) -> None:
    tasks = [fakes.task(seed, "WaitingAgent", folder=str(tmp_path)) for seed in (1000, 1001)]

    def interrupt(outcome: EpisodeResult | EpisodeFailure) -> None:
        wait_until(lambda: bool(notes(tmp_path)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, tmp_path, RayExecutor(cluster.address), interrupt)
    ((process, _),) = notes(tmp_path)
    wait_until(lambda: ended(process))
    assert list(find_stored(tmp_path, tasks).results) == [0]


def test_a_killed_driver_loses_no_finished_episode(cluster: Any, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path
    tasks = [fakes.task(seed, "WaitingAgent", folder=str(folder)) for seed in (1000, 1001)]
    with start_driver(cluster, out, folder) as driver:
        wait_until(lambda: bool(notes(folder)) and bool(list((out / "episodes").glob("*.npz"))), within_s=60.0)
        driver.kill()
    ((process, _),) = notes(folder)
    wait_until(lambda: ended(process))  # its CPU is free for the next run

    stored = find_stored(out, tasks).results
    assert list(stored) == [0]
    (folder / "go").touch()
    results, failures = run(tasks, out, cluster, stored)
    assert failures == []
    assert [result.seed for result in results] == [1000, 1001]


def test_a_killed_node_loses_no_episode(cluster: Any, tmp_path: Path) -> None:
    """The last test but one of the cluster: afterwards it has one node."""
    tasks = [fakes.task(seed, "WaitingAgent", folder=str(tmp_path)) for seed in (1000, 1001, 1002, 1003)]
    (lost,) = cluster.worker_nodes
    cut_off: list[int] = []

    def kill_the_node() -> None:
        wait_until(lambda: len(notes(tmp_path)) == 2)  # one waits on each node
        cut_off.extend(process for process, node in notes(tmp_path) if node == lost.node_id)
        kill_with_children(lost.all_processes["raylet"][0].process.pid)
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill_the_node)
    killer.start()
    results, failures = run(tasks, tmp_path / "out", cluster)
    killer.join()
    assert len(cut_off) == 1
    assert failures == []
    assert [result.seed for result in results] == [1000, 1001, 1002, 1003]
    assert len(list(tmp_path.glob("*.note"))) == 4, "the episode of the lost node ran twice"


def test_the_run_stops_when_ray_ends_on_the_machine_of_the_driver(cluster: Any, tmp_path: Path) -> None:
    """The last test of the cluster: afterwards it has none. The driver is a process of its own, as Ray may end it."""
    out = tmp_path / "out"
    with start_driver(cluster, out, tmp_path) as driver:
        wait_until(lambda: bool(notes(tmp_path)) and bool(list((out / "episodes").glob("*.npz"))), within_s=60.0)
        kill_with_children(cluster.head_node.all_processes["raylet"][0].process.pid)
        assert driver.wait(timeout=60.0) != 0
    tasks = [fakes.task(seed, "WaitingAgent", folder=str(tmp_path)) for seed in (1000, 1001)]
    assert list(find_stored(out, tasks).results) == [0]
