"""Parts of the bed that need no bed: programs by their files, what nodes measure, whom Prometheus asks, images."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.testbed import images, layout, observability, processes, steps, targets
from scripts.testbed.node_metrics import WINDOW_S, Meter
from scripts.testbed.steps import BedError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processes, "FILES", tmp_path / "processes")
    monkeypatch.setattr(processes, "LOGS", tmp_path / "logs")
    return tmp_path


SLEEP = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"]


def reap(pid: int | None) -> None:
    """In the bed the first process does this; here the test is the parent."""
    import os

    assert pid is not None
    os.waitpid(pid, 0)


def test_a_program_is_found_stopped_and_started_again_by_its_name(folder: Path) -> None:
    processes.start("node1/sleeper", SLEEP)
    first = processes.pid_of("node1/sleeper")
    assert processes.names() == ["node1/sleeper"]
    assert processes.is_running("node1/sleeper")
    processes.kill("node1/sleeper")
    reap(first)
    assert not processes.is_running("node1/sleeper")
    processes.restart("node1/sleeper")
    second = processes.pid_of("node1/sleeper")
    assert second != first
    processes.restart("node1/sleeper")
    assert processes.pid_of("node1/sleeper") == second
    processes.stop("node1/sleeper")
    reap(second)
    assert not processes.is_running("node1/sleeper")
    processes.stop("node1/sleeper")


def test_a_program_that_ignores_the_signal_is_stopped_by_force(folder: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    processes.start("deaf", [sys.executable, "-c", code])
    steps.wait_until(lambda: "deaf" in (folder / "logs/deaf.log").read_text(), "started", 10.0)
    processes.stop("deaf", grace_s=0.2)
    assert not processes.is_running("deaf")


def test_another_program_with_the_same_id_is_never_taken_for_it(folder: Path) -> None:
    with subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL) as other:
        file = folder / "processes/mine.json"
        file.parent.mkdir()
        file.write_text(json.dumps({"command": SLEEP, "env": {}, "cwd": None, "pid": other.pid, "born": 1}))
        processes.stop("mine")
        processes.kill("mine")
        assert other.poll() is None
        other.kill()


def test_a_program_that_ends_at_once_is_reported_with_its_log(folder: Path) -> None:
    processes.start("broken", [sys.executable, "-c", "raise SystemExit('no such disk')"])
    steps.wait_until(lambda: not processes.is_running("broken"), "ended", 10.0)
    with pytest.raises(BedError, match="no such disk"):
        processes.check_running("broken")


def test_an_unknown_program_is_refused(folder: Path) -> None:
    with pytest.raises(BedError, match="no program 'prometeus'"):
        processes.kill("prometeus")


class Machine:
    """The two files that a node's meter reads."""

    def __init__(self, folder: Path, node: layout.Node) -> None:
        self.cgroups = folder
        self.usage = folder / "cpuacct" / node.cgroup / "cpuacct.usage"
        self.usage.parent.mkdir(parents=True)
        self.interface = folder / "dev"
        self.set(0.0, 0, 0)

    def set(self, cpu_s: float, received: int, sent: int) -> None:
        self.usage.write_text(str(int(cpu_s * 1e9)))
        self.interface.write_text(
            "Inter-|   Receive\n face |bytes\n"
            f"    lo: 999 0 0 0 0 0 0 0 999 0 0 0 0 0 0 0\n  eth0: {received} 0 0 0 0 0 0 0 {sent} 0 0 0 0 0 0 0\n"
        )


def test_a_node_s_utilisation_is_its_cgroup_over_its_quota(tmp_path: Path) -> None:
    node = layout.NODES[0]
    machine = Machine(tmp_path, node)
    meter = Meter(node, machine.cgroups, machine.interface)
    assert 'imbres_node_cpu_utilisation{node="node1"} 0\n' in meter.text(0.6)
    meter.sample(0.0)
    machine.set(cpu_s=0.6, received=0, sent=25_000_000)
    meter.sample(2.0)
    text = meter.text(0.6)
    assert 'imbres_node_cpu_utilisation{node="node1"} 0.5\n' in text
    assert 'imbres_node_network_utilisation{node="node1"} 0.1\n' in text
    assert 'imbres_node_cpu_cores{node="node1"} 0.6\n' in text


def test_a_node_s_utilisation_forgets_what_is_older_than_the_window(tmp_path: Path) -> None:
    node = layout.NODES[1]
    machine = Machine(tmp_path, node)
    meter = Meter(node, machine.cgroups, machine.interface)
    busy = 0.0
    for half_second in range(60):
        now = half_second / 2.0
        busy = min(now, 10.0)  # a whole core for ten seconds, then nothing
        machine.set(busy, 0, 0)
        meter.sample(now)
        if now == 9.0:
            assert meter.rates()[0] == pytest.approx(1.0)
    assert meter.rates()[0] == 0.0
    assert len(meter._samples) <= 2 * WINDOW_S + 2


def pod(name: str, **changes: Any) -> dict[str, Any]:
    labels = {targets.APPLICATION_LABEL: "bed-chain", targets.MICROSERVICE_LABEL: "orders"}
    meta = {"name": name, "namespace": "shop", "labels": labels}
    base = {"metadata": meta, "spec": {"nodeName": "node2"}, "status": {"phase": "Running", "podIP": "10.244.2.7"}}
    return {**base, **changes}


def test_prometheus_is_told_of_pods_that_run_with_the_labels_of_the_contract() -> None:
    leaving = pod("leaving")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    waiting = pod("waiting", status={"phase": "Pending"})
    found = targets.targets([pod("orders-1"), leaving, waiting])
    labels = {"namespace": "shop", "pod": "orders-1", "node": "node2"}
    labels |= {"application": "bed-chain", "microservice": "orders"}
    assert found == [{"targets": ["10.244.2.7:8080"], "labels": labels}]


def test_labels_are_those_of_connection_plans() -> None:
    from imbres_gym.live import connection_plan

    assert targets.APPLICATION_LABEL == connection_plan.APPLICATION_LABEL
    assert targets.MICROSERVICE_LABEL == connection_plan.MICROSERVICE_LABEL


def test_the_target_file_changes_only_when_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pods = [pod("orders-1")]
    monkeypatch.setattr(targets.api, "get", lambda _: {"items": pods})
    file = tmp_path / "pods.json"
    targets.refresh(file)
    first = file.stat().st_mtime_ns
    time.sleep(0.02)
    targets.refresh(file)
    assert file.stat().st_mtime_ns == first
    pods.append(pod("orders-2"))
    targets.refresh(file)
    assert len(json.loads(file.read_text())) == 2


def test_every_node_is_scraped_three_times_over_and_says_its_name() -> None:
    config = observability.prometheus_config()
    for job in config["scrape_configs"]:
        if job["job_name"] == "pods":
            continue
        nodes = {entry["labels"]["node"] for entry in job["static_configs"]}
        assert nodes == {node.name for node in layout.NODES}, job["job_name"]


def test_an_image_is_an_archive_whose_digests_are_true(tmp_path: Path) -> None:
    layer = images.build_layer(lambda tar: images.add_bytes(tar, "hello", b"world"))
    images.save(tmp_path / "image.tar", "localhost/x:1", [layer], ["/hello"])
    with tarfile.open(tmp_path / "image.tar") as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(archive.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        content = archive.extractfile(manifest["Layers"][0]).read()  # type: ignore[union-attr]
    import hashlib

    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(content).hexdigest()}"]
    assert config["config"]["Entrypoint"] == ["/hello"]
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.extractfile("hello").read() == b"world"  # type: ignore[union-attr]


def test_a_command_that_fails_is_reported_with_what_it_said() -> None:
    with pytest.raises(BedError, match="exit code 3\nno way"):
        steps.call([sys.executable, "-c", "import sys; print('no way'); sys.exit(3)"])
    with pytest.raises(BedError, match="not installed"):
        steps.call(["/nonexistent/program"])


def test_a_step_says_what_it_does_and_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    with steps.step("count to three"):
        pass
    with pytest.raises(ZeroDivisionError), steps.step("divide"):
        raise ZeroDivisionError
    said = capsys.readouterr()
    assert said.out.splitlines()[:2] == ["count to three ...", "count to three: 0.0 s"]
    assert said.err == "divide: FAILED after 0.0 s\n"


def test_addresses_of_the_nodes_do_not_overlap() -> None:
    seen = [value for node in layout.NODES for value in (node.address, node.pods, node.namespace, node.link)]
    assert len(set(seen)) == len(seen)
    assert all(len(node.link) < 16 for node in layout.NODES)  # the kernel's limit of a link's name
    assert all(len(str(node.containerd)) < 108 for node in layout.NODES)  # and of a socket's path
