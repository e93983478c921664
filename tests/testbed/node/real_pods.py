"""Pods made of real parts: a process in a control group that carries a uid, with a network namespace of its own.

Needs root, iptables, nftables and iproute2, as `make testbed` installs them.
"""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = ("unified", "pids", "")
"""Folders under /sys/fs/cgroup in which a control group may be made, whichever version is mounted."""


@dataclass(frozen=True)
class RealPod:
    """One sandbox."""

    uid: str
    sandbox: subprocess.Popen[bytes]

    @property
    def net(self) -> str:
        """Its network namespace."""
        return f"/proc/{self.sandbox.pid}/ns/net"

    def end(self) -> None:
        """Kill it."""
        self.sandbox.kill()
        self.sandbox.wait()

    def run(self, *words: str, text: str = "") -> str:
        """Run a command in its network namespace."""
        done = subprocess.run(
            ["nsenter", f"--net={self.net}", *words],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            timeout=60.0,
        )
        return done.stdout


def _control_group(uid: str) -> Path:
    for controller in CONTROLLERS:
        root = Path("/sys/fs/cgroup") / controller
        if (root / "cgroup.procs").exists():
            group = root / "imbres-test" / f"pod{uid}"
            group.mkdir(parents=True)
            return group
    raise RuntimeError("no control group can be made here")


@contextmanager
def real_pod() -> Iterator[RealPod]:
    """Start a sandbox whose loopback is up; end it and its control group at the end."""
    uid = str(uuid.uuid4())
    group = _control_group(uid)
    # As in a pod, the sandbox is another user than root.
    process = subprocess.Popen(
        ["unshare", "--net", "setpriv", "--reuid=65535", "--clear-groups", "sleep", "infinity"],
        start_new_session=True,
    )
    try:
        (group / "cgroup.procs").write_text(str(process.pid), encoding="utf-8")
        pod = RealPod(uid, process)
        end = time.monotonic() + 10.0
        while Path(f"/proc/{process.pid}/comm").read_text(encoding="utf-8") != "sleep\n":
            assert time.monotonic() < end, "the sandbox did not start"
            time.sleep(0.01)
        pod.run("ip", "link", "set", "lo", "up")
        yield pod
    finally:
        process.kill()
        process.wait()
        end = time.monotonic() + 10.0
        while group.exists() and time.monotonic() < end:
            with suppress(OSError):  # busy until the kernel has forgotten the process
                group.rmdir()
            time.sleep(0.01)
        with suppress(OSError):  # others may still use it
            group.parent.rmdir()
