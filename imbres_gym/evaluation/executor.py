"""Runs a function on many items in parallel; the seam where another way to do so (Ray) fits in."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class WorkerLost:
    """What becomes of an item whose worker died.

    Attributes:
        exit_code: of the process; negative: the signal that killed it.
    """

    exit_code: int | None


class Executor(Protocol):
    """Anything that can run a picklable function on picklable items, each once, in any order."""

    def run(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[tuple[int, Result | WorkerLost], None, None]:
        """Yield (index of the item, result) as they come; closing the generator stops everything at once.

        `function` must not raise.
        """
        ...


def use_one_thread() -> None:
    """Let numerical libraries that are loaded from now on, here and in child processes, use one thread.

    Episodes run in parallel already; and sums whose order depends on the number of cores would not repeat.
    """
    for name in _THREAD_VARIABLES:
        os.environ[name] = "1"


class ProcessExecutor:
    """Worker processes on this machine, each started afresh (spawn), so that none inherits state.

    A worker that dies costs the item that it had; another one takes its place.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[tuple[int, Result | WorkerLost], None, None]:
        """See `Executor.run`."""
        waiting = deque(enumerate(items))
        busy: dict[Connection[Any, Any], tuple[BaseProcess, int]] = {}
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
                        result = WorkerLost(process.exitcode)
                        if waiting:
                            _start(function, waiting.popleft(), busy)
                    else:
                        _give_next(connection, process, waiting, busy)
                    yield index, result
        finally:
            for process, _ in busy.values():
                process.terminate()
            for process, _ in busy.values():
                process.join()


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
