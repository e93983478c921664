"""Finding a pod's processes in a process table made of files, and what commands in a namespace say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imbres_gym.live.node.namespaces import Command, CommandFailed, Namespaces, NoNamespace, pod_uid

UID = "0123abcd-0000-4000-8000-00000000000a"
OTHER = "0123abcd-0000-4000-8000-00000000000b"


@pytest.mark.parametrize(
    "line",
    [
        f"12:pids:/kubepods/burstable/pod{UID}/3f0e",
        f"0::/kubepods.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/cri-containerd-3f0e.scope",
        f"0::/../../pod{UID}/3f0e",  # seen from a container's own cgroup namespace
        f"4:cpu:/tbn1/kubepods/besteffort/pod{UID}",
    ],
)
def test_the_uid_is_read_whatever_the_cgroup_driver(line: str) -> None:
    assert pod_uid(f"1:name=systemd:/\n{line}\n") == UID


def test_a_process_outside_of_pods_has_no_uid() -> None:
    assert pod_uid("0::/system.slice/podman.service\n") is None


class Table:
    """A process table in a folder; namespaces are plain files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.add(1, None, 1, "host")
        self.add("self", None, 2, "agent")

    def add(self, process: int | str, uid: str | None, started: int, net: str, name: str = "pause") -> None:
        folder = self.folder / str(process)
        (folder / "ns").mkdir(parents=True)
        (folder / "cgroup").write_text(f"0::/kubepods/pod{uid}/x\n" if uid else "0::/init.scope\n")
        (folder / "stat").write_text(f"{process} ({name}) S " + " ".join(["0"] * 18) + f" {started} 0 0\n")
        (self.folder / net).touch()
        (folder / "ns" / "net").hardlink_to(self.folder / net)

    def end(self, process: int) -> None:
        (self.folder / str(process)).rename(self.folder / f"ended-{process}")

    def entered(self, namespaces: Namespaces, uid: str) -> str:
        with namespaces.enter(uid) as namespace:
            return Path(os.readlink(f"/proc/self/fd/{namespace.descriptor}")).parent.parent.name


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def test_the_oldest_process_of_the_pod_is_its_sandbox(table: Table) -> None:
    # A process of the pod may make a namespace of its own; numbers start again from below.
    table.add(300, UID, 50, "pod")
    table.add(40, UID, 70, "nested", name="a ) b")
    table.add(41, OTHER, 10, "other")
    assert table.entered(Namespaces(table.folder), UID) == "300"


def test_a_number_that_went_to_another_process_is_not_taken_for_the_pod(table: Table) -> None:
    table.add(300, UID, 50, "pod")
    namespaces = Namespaces(table.folder)
    assert table.entered(namespaces, UID) == "300"
    table.end(300)
    table.add(300, OTHER, 90, "other")
    with pytest.raises(NoNamespace, match="no process of it runs on this node"):
        table.entered(namespaces, UID)
    table.add(301, UID, 95, "restarted")
    assert table.entered(namespaces, UID) == "301"


@pytest.mark.parametrize("network", ["host", "agent"])
def test_the_nodes_own_network_is_never_entered(table: Table, network: str) -> None:
    table.add(300, UID, 50, network)
    with pytest.raises(NoNamespace, match="hostNetwork"):
        table.entered(Namespaces(table.folder), UID)


def test_no_file_stays_open(table: Table) -> None:
    table.add(300, UID, 50, "pod")
    namespaces = Namespaces(table.folder)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        table.entered(namespaces, UID)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_command_gets_its_input_and_gives_its_output() -> None:
    assert Command(("cat",), text="some rules\n").run() == "some rules\n"


def test_the_output_of_a_command_may_hold_any_bytes() -> None:
    assert Command(("printf", r"caf\351: rules\n")).run() == "caf\ufffd: rules\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sh", "-c", "echo 'no room' >&2; exit 4"), "sh ended with 4: no room"),
        (("false",), "false ended with 1: no message"),
        (("imbres-no-such-program",), "imbres-no-such-program: .*No such file"),
    ],
)
def test_a_command_that_fails_says_why(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandFailed, match=message):
        Command(words).run()
