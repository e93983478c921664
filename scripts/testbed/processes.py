"""Programs that outlive the command that started them: each has a file that says how to find, stop and restart it.

A process is known by its id and its start time, so that a program that got a dead one's id is never taken for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.testbed.layout import RUN
from scripts.testbed.steps import BedError

FILES = RUN / "processes"
LOGS = RUN / "logs"


def start(
    name: str,
    command: Sequence[str | Path],
    namespace: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Start a program in a session of its own, with its output in `logs/NAME.log`.

    Args:
        name: unique on the bed; "node1/kubelet" for what belongs to a node.
        command: program and arguments.
        namespace: network namespace to run it in.
        env: variables besides those of this process.
        cwd: folder to run it in.
    """
    words = [str(word) for word in command]
    if namespace is not None:
        words = ["nsenter", f"--net=/run/netns/{namespace}", "--", *words]
    _spawn(name, {"command": words, "env": dict(env or {}), "cwd": str(cwd) if cwd else None})


def restart(name: str) -> None:
    """Start a stopped program as it was started before."""
    if not is_running(name):
        _spawn(name, _read(name))


def _spawn(name: str, recipe: dict[str, Any]) -> None:
    log = LOGS / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            recipe["command"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **recipe["env"]},
            cwd=recipe["cwd"],
            start_new_session=True,
        )
    process.returncode = 0  # nobody waits for it: it outlives this program
    file = _file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {**{key: recipe[key] for key in ("command", "env", "cwd")}, "pid": process.pid}
    file.write_text(json.dumps({**kept, "born": _birth(process.pid)}))


def names() -> list[str]:
    """All programs that were started, in the order of their start."""
    files = sorted(FILES.glob("**/*.json"), key=lambda file: file.stat().st_mtime_ns)
    return [str(file.relative_to(FILES).with_suffix("")) for file in files]


def is_running(name: str) -> bool:
    """Whether the program that was started under this name still runs."""
    return pid_of(name) is not None


def pid_of(name: str) -> int | None:
    """Process id of a program that runs."""
    try:
        recipe = _read(name)
    except BedError:
        return None
    born = _birth(recipe["pid"])
    return recipe["pid"] if born is not None and born == recipe["born"] else None


def check_running(name: str) -> None:
    """Say why a program that should run does not.

    Raises:
        BedError: it ended; holds the end of its log.
    """
    if not is_running(name):
        log = LOGS / f"{name}.log"
        raise BedError(f"{name} ended at once; the end of {log}:\n{log.read_text(errors='replace')[-2000:]}")


def stop(name: str, grace_s: float = 5.0) -> None:
    """End a program, by force if it does not end by itself; its file stays, so that it can be started again."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        pid = pid_of(name)
        if pid is None:
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + wait_s
        while is_running(name) and time.monotonic() < deadline:
            time.sleep(0.05)


def kill(name: str) -> None:
    """End a program at once, as a crash does.

    Raises:
        BedError: the bed has no such program.
    """
    _read(name)
    pid = pid_of(name)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def forget(name: str) -> None:
    """Take a stopped program off the list of what should run."""
    _file(name).unlink(missing_ok=True)


def _file(name: str) -> Path:
    return FILES / f"{name}.json"


def _read(name: str) -> dict[str, Any]:
    try:
        recipe: dict[str, Any] = json.loads(_file(name).read_text())
    except FileNotFoundError:
        raise BedError(f"the bed has no program {name!r}; it has: {', '.join(names()) or 'none'}") from None
    return recipe


def _birth(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])
