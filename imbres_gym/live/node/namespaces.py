"""Finding a pod's network namespace from the node, and running commands in it.

The processes of a pod are found by its uid in `/proc/*/cgroup`, which needs the host's process table (`hostPID`) but no
container runtime's socket: the path of a pod's control group holds the uid whatever the runtime, the cgroup driver
(systemd writes `_` for `-`) and the cgroup version. Of these processes the oldest is the sandbox ("pause"), which
lives as long as the pod does; a younger one could have made a network namespace of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

COMMAND_TIMEOUT_S = 10.0
"""Longest wait for one command; a restore of 100 rules takes 10 ms (estimate of what is surely a hang)."""
_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")
"""A uid in a control group's path."""


class CommandFailed(RuntimeError):
    """A command in a pod's namespace failed; the message has what it said."""


class NoNamespace(LookupError):
    """The pod has no network namespace of its own on this node; the message says why."""


@dataclass(frozen=True)
class Command:
    """One program of this image, its arguments and its standard input."""

    words: tuple[str, ...]
    text: str = ""

    def run(self, *before: str, descriptors: tuple[int, ...] = ()) -> str:
        """Run it.

        Args:
            before: the words of a program that runs this one.
            descriptors: open files that it inherits.

        Returns:
            Its standard output.

        Raises:
            CommandFailed: it ended with an error, took too long, or is not there.
        """
        try:
            done = subprocess.run(
                [*before, *self.words],
                input=self.text,
                capture_output=True,
                encoding="utf-8",
                errors="replace",  # what others wrote there, such as a comment, may be in any encoding
                timeout=COMMAND_TIMEOUT_S,
                pass_fds=descriptors,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CommandFailed(f"{self.words[0]}: {error}") from None
        if done.returncode:
            raise CommandFailed(f"{self.words[0]} ended with {done.returncode}: {done.stderr.strip() or 'no message'}")
        return done.stdout


@dataclass(frozen=True)
class Namespace:
    """An open network namespace."""

    descriptor: int

    def run(self, command: Command) -> str:
        """Run a command in it and return its standard output.

        Raises:
            CommandFailed: see `Command.run`.
        """
        return command.run("nsenter", f"--net=/proc/self/fd/{self.descriptor}", descriptors=(self.descriptor,))


@dataclass(frozen=True)
class _Process:
    id: int
    started: int
    """Clock ticks since the machine started: with the id, it tells a process from a later one of the same number."""


class Namespaces:
    """The network namespaces of the pods on this node.

    Args:
        proc: where the host's process table is mounted.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._known: dict[str, _Process] = {}

    @contextmanager
    def enter(self, uid: str) -> Iterator[Namespace]:
        """Open the network namespace of a pod.

        Raises:
            NoNamespace: none of its processes runs here, or it shares the node's network.
        """
        process = self._known.get(uid)
        if process is None or self._uid_and_start(process.id) != (uid, process.started):
            self._scan()
            process = self._known.get(uid)
        if process is None:
            raise NoNamespace("no process of it runs on this node")
        try:
            descriptor = os.open(self._proc / str(process.id) / "ns" / "net", os.O_RDONLY)
        except FileNotFoundError:
            raise NoNamespace("its sandbox ended just now") from None
        try:
            # Looked at again once it is open: the number may have gone to another process meanwhile.
            if self._uid_and_start(process.id) != (uid, process.started):
                raise NoNamespace("its sandbox ended just now")
            if self._is_the_nodes(descriptor):
                raise NoNamespace("it shares the node's network (hostNetwork), which is left alone")
            yield Namespace(descriptor)
        finally:
            os.close(descriptor)

    def _is_the_nodes(self, descriptor: int) -> bool:
        """Whether a network namespace is that of the node's first process, or of this one.

        A second look, as the API server says which pods share the node's network. The first process may be out of
        sight where the node is itself a container.
        """
        for process in ("1", "self"):
            with suppress(PermissionError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self._proc / process / "ns" / "net")):
                    return True
        return False

    def _scan(self) -> None:
        """Look at every process once: the oldest of each pod."""
        self._known = {}
        for name in os.listdir(self._proc):
            if not name.isdigit() or (found := self._uid_and_start(int(name))) is None:
                continue
            uid, started = found
            if uid not in self._known or started < self._known[uid].started:
                self._known[uid] = _Process(int(name), started)

    def _uid_and_start(self, process: int) -> tuple[str, int] | None:
        """The pod that a process belongs to, and when it started; None if it is of no pod or has ended."""
        folder = self._proc / str(process)
        try:
            uid = pod_uid((folder / "cgroup").read_text(encoding="utf-8"))
            if uid is None:
                return None
            # The program's name is in brackets and may hold anything; the start is the 20th value behind it.
            return uid, int(
                (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
            )
        except (OSError, IndexError):
            return None


def pod_uid(cgroup: str) -> str | None:
    """The uid of the pod that `/proc/PID/cgroup` names; None if it names none."""
    match = _POD.search(cgroup)
    return match[1].replace("_", "-") if match else None
