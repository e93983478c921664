"""A cgroup per node: its quota makes a node a host of known capacity, and noise in it is interference on that host."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from scripts.testbed.layout import CGROUPS, NODE_CORES, NODES, PERIOD_US, Node
from scripts.testbed.steps import BedError

CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")


def check() -> None:
    """Refuse a machine whose cgroups the bed was not tried on.

    Raises:
        BedError: not cgroup version 1.
    """
    absent = [name for name in CONTROLLERS if not (CGROUPS / name).is_dir()]
    if absent:
        raise BedError(
            f"{CGROUPS} has no {', '.join(absent)}: the bed needs cgroup version 1 "
            "(kernel parameter systemd.unified_cgroup_hierarchy=0)"
        )


def add_node(node: Node) -> None:
    """Make a node's cgroups; the quota is set before any pod starts, as the kernel wants it."""
    for controller in CONTROLLERS:
        (CGROUPS / controller / node.cgroup).mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        (CGROUPS / "cpuset" / node.cgroup / name).write_text((CGROUPS / "cpuset" / name).read_text())
    set_quota(CGROUPS / "cpu" / node.cgroup, NODE_CORES)


def set_quota(folder: Path, cores: float) -> None:
    """Limit a group of the cpu controller."""
    (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (folder / "cpu.cfs_quota_us").write_text(str(int(cores * PERIOD_US)))


def pids_of(node: Node) -> set[int]:
    """Processes in a node's cgroups: its containers and the noise, not kubelet and containerd."""
    pids: set[int] = set()
    for folder in _folders(node):
        try:
            pids.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
        except OSError:  # the group went while it was read
            continue
    return pids


def kill_node(node: Node, timeout_s: float = 10.0) -> None:
    """Kill all that runs in a node's cgroups.

    Raises:
        BedError: something survives.
    """
    deadline = time.monotonic() + timeout_s
    while pids := pids_of(node):
        if time.monotonic() > deadline:
            raise BedError(f"{node.name}: processes {sorted(pids)} do not end")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.1)


def remove() -> None:
    """Delete the cgroups of all nodes, which must be empty."""
    for node in NODES:
        for folder in _folders(node):
            with contextlib.suppress(FileNotFoundError):  # a runtime may be at it, too
                folder.rmdir()


def _folders(node: Node) -> list[Path]:
    """A node's groups in every tree, the deepest first; those that go meanwhile are left out (`os.walk`)."""
    tops = [tree / node.cgroup for tree in CGROUPS.iterdir() if tree.is_dir()]
    return [Path(root) for top in tops for root, _, _ in os.walk(top, topdown=False)]


def leftovers() -> list[str]:
    """Groups that are still there."""
    return [f"cgroup {folder}" for node in NODES for folder in _folders(node)]
