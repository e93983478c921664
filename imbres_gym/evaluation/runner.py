"""Runs the episodes of a comparison in parallel, keeps each as soon as it is finished, and goes on where it stopped."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from imbres_gym.config import ConfigError
from imbres_gym.evaluation.episode import EpisodeResult, run_episode
from imbres_gym.evaluation.executor import Executor, WorkerLost
from imbres_gym.evaluation.storage import episode_path, save_episode, stored_episode, write_atomically
from imbres_gym.evaluation.task import EpisodeTask


@dataclass(frozen=True)
class EpisodeFailure:
    """An episode that could not be finished.

    Attributes:
        title: which one.
        message: one line.
        details: the traceback.
        misconfigured: the user's configuration is to blame.
    """

    title: str
    message: str
    details: str
    misconfigured: bool = False


@dataclass(frozen=True)
class Stored:
    """What an output folder already has of a comparison.

    Attributes:
        results: by position in the list of tasks.
        rejected: why each file that has the right name cannot be used.
    """

    results: dict[int, EpisodeResult]
    rejected: list[str]


def find_stored(folder: Path, tasks: Sequence[EpisodeTask]) -> Stored:
    """Look for finished episodes of exactly these tasks."""
    results: dict[int, EpisodeResult] = {}
    rejected: list[str] = []
    for index, task in enumerate(tasks):
        result, reason = stored_episode(folder, task)
        if result is not None:
            results[index] = result
        elif reason:
            rejected.append(reason)
    return Stored(results, rejected)


def attempt(task: EpisodeTask) -> EpisodeResult | EpisodeFailure:
    """Run one episode; whatever goes wrong in it becomes a value, so that the others go on."""
    try:
        return run_episode(task)
    except (Exception, SystemExit) as error:
        message = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        return EpisodeFailure(task.title, message, traceback.format_exc(), isinstance(error, ConfigError))


def run_tasks(
    tasks: Sequence[EpisodeTask],
    folder: Path,
    executor: Executor,
    on_finished: Callable[[EpisodeResult | EpisodeFailure], None],
    stored: dict[int, EpisodeResult] | None = None,
) -> tuple[list[EpisodeResult], list[EpisodeFailure]]:
    """Run every task that is not stored; write each episode into `folder` as it comes.

    The first seed of every scenario and agent runs first, so that what is wrong shows early, and what is stopped has
    something of each.

    Args:
        tasks: the episodes.
        folder: output folder; episodes go to `episodes/`, tracebacks of failed ones to `failures/`.
        executor: runs them; the results do not depend on it.
        on_finished: called for each episode that was run.
        stored: results that need not be run again, by position in `tasks`.

    Returns:
        The results in the order of the tasks, and the failures.

    Raises:
        ConfigError: a configuration turned out to be wrong when it was used; what is running is stopped.
        CannotWrite: the folder takes no more files; what is running is stopped, what is written is whole.
        ClusterLost: nothing is left to run episodes on.
    """
    results = dict(stored or {})
    failures: list[EpisodeFailure] = []
    missing = sorted((i for i in range(len(tasks)) if i not in results), key=lambda i: tasks[i].seed)
    with closing(executor.run(attempt, [tasks[index] for index in missing])) as outcomes:
        for position, outcome in outcomes:
            task = tasks[missing[position]]
            finished: EpisodeResult | EpisodeFailure
            if isinstance(outcome, WorkerLost):
                finished = _lost(task, outcome)
            elif isinstance(outcome, EpisodeResult):
                finished = _checked(task, outcome)
            else:
                finished = outcome
            if isinstance(finished, EpisodeResult):
                results[missing[position]] = finished
                save_episode(finished, episode_path(folder, task))
                failure_path(folder, task).unlink(missing_ok=True)
            elif finished.misconfigured:
                raise ConfigError(finished.message)
            else:
                failures.append(finished)
                write_atomically(failure_path(folder, task), finished.details.encode())
            on_finished(finished)
    return [results[index] for index in sorted(results)], failures


def failure_path(folder: Path, task: EpisodeTask) -> Path:
    """Where the traceback of a failed episode is kept."""
    return folder / "failures" / f"{task.file_stem}.txt"


def _lost(task: EpisodeTask, lost: WorkerLost) -> EpisodeFailure:
    message = f"its process died in each of {lost.attempts} attempts ({lost.cause})"
    return EpisodeFailure(task.title, message, f"{task.title}: {message}\n")


def _checked(task: EpisodeTask, result: EpisodeResult) -> EpisodeResult | EpisodeFailure:
    """The result, unless it is of something else: another machine may have other files under the same names."""
    wanted = task.fingerprint()
    different = ", ".join(name for name in wanted if result.fingerprint.get(name) != wanted[name])
    if not different:
        return result
    message = f"it ran with another {different} than this machine has: do all machines have the same files?"
    return EpisodeFailure(task.title, message, f"{task.title}: {message}\n")
