"""Runs a function on many items in parallel: in processes of this machine, or (`ray_executor`) on a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that say how many threads numerical libraries use."""

RETRIES = 3
"""How often an item runs again whose worker died; Ray's default for tasks."""


@dataclass(frozen=True)
class WorkerLost:
    """What becomes of an item whose worker died again and again.

    Attributes:
        cause: of the last time, in a few words.
        attempts: how often it was tried.
    """

    cause: str
    attempts: int


class ClusterLost(Exception):
    """Everything that could run items is gone; those that have a result keep it."""


class Executor(Protocol):
    """Anything that can run a picklable function on picklable items, each once, in any order."""

    def run(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[tuple[int, Result | WorkerLost], None, None]:
        """Yield (index of the item, result) as they come; closing the generator stops everything at once.

        An item whose worker dies runs again, up to `RETRIES` times. `function` must not raise, and what it returns
        must depend on the item alone.
        """
        ...


def make_executor(workers: int | None, ray_address: str | None) -> Executor:
    """The executor that a command line asks for.

    Args:
        workers: items that run at once; None: as many as there are cores.
        ray_address: None for processes of this machine; else see `imbres_gym.evaluation.ray_executor.RayExecutor`.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """
    if ray_address is None:
        return ProcessExecutor(workers or os.cpu_count() or 1)
    from imbres_gym.evaluation.ray_executor import RayExecutor

    return RayExecutor(ray_address, workers)


def use_one_thread() -> None:
    """Let numerical libraries that are loaded from now on, here and in child processes, use one thread.

    Episodes run in parallel already; and sums whose order depends on the number of cores would not repeat.
    """
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"


class ProcessExecutor:
    """Worker processes on this machine, each started afresh (spawn), so that none inherits state.

    Another worker takes the place of one that dies.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[tuple[int, Result | WorkerLost], None, None]:
        """See `Executor.run`."""
        waiting = deque(enumerate(items))
        busy: dict[Connection[Any, Any], tuple[BaseProcess, int]] = {}
        deaths: Counter[int] = Counter()
        try:
            for _ in range(min(self._workers, len(items))):
                _start(function, waiting.popleft(), busy)
            while busy:
                for connection in wait(list(busy)):
                    assert isinstance(connection, Connection)
                    process, index = busy[connection]
                    try:
                        result: Result | WorkerLost = connection.recv()
                    except (EOFError, ConnectionResetError):
                        del busy[connection]
                        process.join()
                        deaths[index] += 1
                        if again := deaths[index] <= RETRIES:
                            waiting.append((index, items[index]))
                        if waiting:
                            _start(function, waiting.popleft(), busy)
                        if again:
                            continue
                        result = WorkerLost(_cause(process.exitcode), deaths[index])
                    else:
                        _give_next(connection, process, waiting, busy)
                    yield index, result
        finally:
            for process, _ in busy.values():
                process.terminate()
            for process, _ in busy.values():
                process.join()


def _cause(exit_code: int | None) -> str:
    """In words, what ended a process."""
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    hint = "; the system may have run out of memory: try fewer --workers" if exit_code == -signal.SIGKILL else ""
    return f"signal {-exit_code}{hint}"


def _start(
    function: Callable[[Any], Any], first: tuple[int, Any], busy: dict[Connection[Any, Any], tuple[BaseProcess, int]]
) -> None:
    """Start a worker on its first item."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, function), daemon=True)
    with _interrupts_ignored():
        process.start()
    theirs.close()
    _give(ours, process, first, busy)


def _give_next(
    connection: Connection[Any, Any],
    process: BaseProcess,
    waiting: deque[tuple[int, Any]],
    busy: dict[Connection[Any, Any], tuple[BaseProcess, int]],
) -> None:
    """Hand the next item to a worker that has finished one, or let the worker go."""
    if not waiting:
        del busy[connection]
        connection.close()
        return
    _give(connection, process, waiting.popleft(), busy)


def _give(
    connection: Connection[Any, Any],
    process: BaseProcess,
    job: tuple[int, Any],
    busy: dict[Connection[Any, Any], tuple[BaseProcess, int]],
) -> None:
    busy[connection] = (process, job[0])
    with contextlib.suppress(BrokenPipeError):  # a worker that died meanwhile is noticed by the next wait
        connection.send(job[1])


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A process started here ignores Ctrl-C from its first instruction on: the parent decides what is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(connection: Connection[Any, Any], function: Callable[[Any], Any]) -> None:
    """The life of a worker: one item after another until the parent hangs up, or is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(function(connection.recv()))


def _end_with_parent() -> None:
    """End this process at once when its parent was killed: nobody is left to take the result."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
