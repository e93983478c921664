"""Runs a function on many items in a Ray cluster: one that this process starts for itself, or one that exists."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import secrets
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from imbres_gym.config import ConfigError
from imbres_gym.evaluation.executor import RETRIES, THREAD_VARIABLES, ClusterLost, Item, Result, WorkerLost
from imbres_gym.evaluation.installation import describe_installation, differences
from imbres_gym.evaluation.ray_address import LOCAL, check_address, unreachable

_CHECK_S = 5.0
"""Between two looks at whether this machine still belongs to the cluster [s]; estimate: rare beside any episode."""


class RayExecutor:
    """One Ray task for each item; see `Executor`.

    A task that is lost with its worker or node runs again, up to `RETRIES` times; a task whose function ended in any
    way of its own does not. An existing cluster must have this very code installed on every node: a task that finds
    another one stops the run.

    Args:
        address: `local` starts Ray on this machine, and ends it afterwards; `auto` means the cluster that runs on this
            machine; else `HOST:PORT` of a cluster's head that this machine is a node of.
        workers: the most tasks at once; None: as many as there are CPUs.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, address: str = LOCAL, workers: int | None = None) -> None:
        if find_spec("ray") is None:
            raise ConfigError("--ray-address: Ray is not installed; pip install 'imbres-gym[ray]'")
        check_address(address)
        self._address = address
        self._workers = workers

    def run(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[tuple[int, Result | WorkerLost], None, None]:
        """See `Executor.run`.

        Raises:
            ConfigError: no cluster, one without CPUs, or other code on one of its nodes.
            ClusterLost: the whole cluster is gone.
        """
        if not items:
            return
        with _connected(self._address, self._workers) as ray:
            limit = self._workers or int(ray.cluster_resources().get("CPU", 0))
            if limit < 1:
                raise ConfigError(f"--ray-address {self._address}: the cluster has no CPUs; start a node that has some")
            yield from _run(ray, function, items, limit)


def _run(
    ray: Any, function: Callable[[Item], Result], items: Sequence[Item], limit: int
) -> Generator[tuple[int, Result | WorkerLost], None, None]:
    """Keep `limit` tasks in flight until all items have a result."""
    # Ray's own retries are unbounded when memory is short, and they do not say how often; so they are counted here.
    execute = ray.remote(num_cpus=1, max_retries=0)(_execute)
    here, paths = describe_installation(), list(sys.path)
    waiting = deque(range(len(items)))
    attempts: Counter[int] = Counter()
    running: dict[Any, int] = {}
    while waiting or running:
        while waiting and len(running) < limit:
            index = waiting.popleft()
            attempts[index] += 1
            running[execute.remote(here, paths, pickle.dumps((function, items[index])))] = index
        ready = _next_ended(ray, list(running))
        index = running.pop(ready)
        outcome = _outcome(ray, ready, attempts[index])
        if isinstance(outcome, WorkerLost) and attempts[index] <= RETRIES:
            waiting.append(index)
        else:
            yield index, outcome


def _next_ended(ray: Any, running: list[Any]) -> Any:
    """Wait for a task to end.

    Raises:
        ClusterLost: Ray's process on this machine is gone; tasks would be waited for without end.
    """
    while True:
        ready, _ = ray.wait(running, timeout=_CHECK_S)
        if ready:
            return ready[0]
        here = ray.get_runtime_context().get_node_id()
        if not any(node["NodeID"] == here and node["Alive"] for node in ray.nodes()):
            raise ClusterLost("Ray has ended on this machine")


def _execute(expected: dict[str, str], paths: list[str], job: bytes) -> bytes | str:
    """In a worker: the pickled result of a job; or, as text, why this worker cannot do it.

    A result travels as bytes: Ray would hand out arrays that are read-only, and gone once Ray is shut down.
    """
    if different := differences(expected, describe_installation()):
        return different
    sys.path.extend(path for path in paths if path not in sys.path)  # an agent's module may lie anywhere
    function, item = pickle.loads(job)
    return pickle.dumps(function(item))


def _outcome(ray: Any, reference: Any, attempts: int) -> Any:
    """The result of a task that has ended, or `WorkerLost`."""
    try:
        answer = ray.get(reference)
    except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
        cause = getattr(error, "cause", None) or error
        raise ConfigError(f"a Ray worker cannot run this: {type(cause).__name__}: {cause}") from error
    except ray.exceptions.LocalRayletDiedError as error:
        raise ClusterLost("Ray has ended on this machine") from error
    except ray.exceptions.OutOfMemoryError:
        return WorkerLost("Ray stopped it because memory ran short: try fewer --workers", attempts)
    except ray.exceptions.RayError as error:
        return WorkerLost(type(error).__name__, attempts)
    if isinstance(answer, str):
        raise ConfigError(f"a Ray worker has another installation than this machine: {answer}; install the same there")
    return pickle.loads(answer)


@contextlib.contextmanager
def _connected(address: str, workers: int | None) -> Iterator[Any]:
    """Ray, connected; leaving ends the tasks that still run, and a cluster that was started here."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == LOCAL:
        # A cluster of one run needs no lasting secret; without this Ray leaves one in the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        raise ConfigError("this process is connected to Ray already; call ray.shutdown() first")
    where: dict[str, Any] = {"address": address}
    if address == LOCAL:
        where |= {"num_cpus": workers or os.cpu_count() or 1, "include_dashboard": False}
    else:
        threads = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
        where["runtime_env"] = {"env_vars": threads}
    try:
        with _handler_of_sigterm_kept():
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        ray.shutdown()
        raise unreachable(address, _root(error)) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _root(error: BaseException) -> str:
    """The first line of what was raised first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextlib.contextmanager
def _handler_of_sigterm_kept() -> Iterator[None]:
    """Undo that Ray turns SIGTERM into `SystemExit`: it ends this process as it would without Ray."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
