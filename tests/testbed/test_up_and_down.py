"""The bed goes without a trace, and comes up from whatever is left of an earlier one. The last tests of the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from live_cluster import Bed

from scripts.testbed import bed as machine
from scripts.testbed import layout, network, processes, stress
from scripts.testbed.steps import BedError


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def test_down_leaves_nothing_behind_and_may_be_said_twice(bed: Bed) -> None:
    stress.start(layout.NODES[0], 0.1)
    pids = {name: processes.pid_of(name) for name in processes.names()}
    assert len(pids) > 20
    assert str(layout.RUN) in mounts()
    for _ in range(2):
        machine.down()
        assert machine.leftovers() == []
        assert str(layout.RUN) not in mounts()
        assert network.pod_namespaces() == set()
        assert not layout.RUN.exists()
    for name, pid in pids.items():
        assert pid is not None
        # An id may have gone to another program since; none of the bed's still runs.
        command = Path(f"/proc/{pid}/cmdline")
        assert not command.exists() or str(layout.RUN) not in command.read_text(encoding="utf-8"), name
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        assert "containerd-shim" not in words.split("\0")[0]


def test_up_takes_the_remains_of_a_bed_away_first(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    machine.up()
    for name in ("etcd", "kube-apiserver", "node2/containerd", "prometheus"):
        processes.kill(name)
    assert not machine.is_up()
    capsys.readouterr()
    machine.up()
    assert "found the remains of a bed" in capsys.readouterr().out
    assert machine.is_up()


def test_commands_without_a_bed_s_program_say_what_there_is(bed: Bed) -> None:
    with pytest.raises(BedError, match=r"no program 'jaeger'; it has: .*prometheus"):
        processes.kill("jaeger")
