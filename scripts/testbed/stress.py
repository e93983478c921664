"""Interference: stress-ng in a node's cgroup is the best-effort job that shares the node with the pods."""

from __future__ import annotations

import os
import shutil

from scripts.testbed import cgroups, processes
from scripts.testbed.layout import CGROUPS, Node
from scripts.testbed.nodes import quota_cores
from scripts.testbed.steps import BedError

GROUP = "noise"
THREADS = 4 * (os.cpu_count() or 1)
"""Of the job: enough to take every CPU at once, as parallel batch jobs do (estimate)."""
SHARES_OF_A_THREAD = 1024
"""Weight of a thread against the pods' group, as if it ran beside the pods without a group: the kernel's default."""


def start(node: Node, cores: float) -> None:
    """Let a job use some cores of a node, until `stop`; a job that runs is given the new amount.

    Args:
        node: where.
        cores: CPU quota of the job; what it gets also depends on the pods, which share the node's quota with it.

    Raises:
        BedError: not between 0 and the node's quota.
    """
    limit = quota_cores(node)
    if not 0.0 < cores <= limit:
        raise BedError(f"--cores {cores:g}: must be above 0 and at most {node.name}'s quota of {limit:g} cores")
    folder = CGROUPS / "cpu" / node.cgroup / GROUP
    name = f"{node.name}/{GROUP}"
    folder.mkdir(exist_ok=True)
    cgroups.set_quota(folder, cores)
    (folder / "cpu.shares").write_text(str(SHARES_OF_A_THREAD * THREADS))
    if processes.is_running(name):
        return
    account = CGROUPS / "cpuacct" / node.cgroup / GROUP
    account.mkdir(exist_ok=True)
    # The shell enters the groups and becomes stress-ng: no moment of it runs outside.
    enter = f"echo $$ > {folder}/cgroup.procs && echo $$ > {account}/cgroup.procs"
    job = f"exec stress-ng --quiet --cpu {THREADS} --cpu-method matrixprod"
    processes.start(name, [shutil.which("sh") or "/bin/sh", "-c", f"{enter} && {job}"])


def stop(node: Node) -> None:
    """End the job."""
    name = f"{node.name}/{GROUP}"
    processes.stop(name)
    processes.forget(name)
