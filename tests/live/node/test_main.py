"""A whole agent over real HTTP, on pods in memory: from a plan to its status, and the way out."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from node_fakes import ApiServer, FakePods, api_pod, spec
from typer.testing import CliRunner

from imbres_gym.cli import app
from imbres_gym.config import ConfigError, config_root
from imbres_gym.live.metrics_server import MetricsServer
from imbres_gym.live.node import main as module
from imbres_gym.live.node.metrics import Metrics
from imbres_gym.live.node.rules import NOTHING

NAME = "shop.node-1"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    server.pods = [api_pod("a"), api_pod("b"), api_pod("far", node="node-2"), api_pod("net", host_network=True)]
    server.pods += [api_pod("mesh", sidecar="istio-proxy")]
    server.start()
    yield server
    server.stop()


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> FakePods:
    pods = FakePods.running("a", "b", "far", "net", "mesh")
    monkeypatch.setattr(module, "choose_backend", lambda: pods)
    monkeypatch.setattr(module, "Namespaces", lambda: pods)
    monkeypatch.setattr(module.logging, "basicConfig", lambda **_: None)
    return pods


def during(act: Callable[[], None]) -> threading.Thread:
    """Do something beside the agent, which needs the main thread for its signals; then end the agent as Kubernetes."""

    def run() -> None:
        try:
            act()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10.0
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


def test_an_agent_writes_reports_and_leaves(server: ApiServer, pods: FakePods, tmp_path: Path) -> None:
    server.put_plan(NAME, spec("a", "b", "far", "net", "mesh"))
    seen = {}

    def act() -> None:
        wait_for(lambda: "observedGeneration" in server.plans[NAME]["status"])
        seen["status"], seen["rules"] = dict(server.plans[NAME]["status"]), pods.in_force()
        server.put_plan(NAME, spec("a"))
        wait_for(lambda: server.plans[NAME]["status"]["observedGeneration"] == 2)
        seen["then"], seen["healed"] = pods.in_force(), server.plans[NAME]["status"]["error"]

    thread = during(act)
    config = server.kubeconfig(tmp_path / "config")
    module.run_agent("node-1", "fake", config, check_interval_s=1.0, drain_per_s=0, port=0)
    thread.join()
    assert seen["rules"] == {"a": [750_000, 250_000], "b": [750_000, 250_000]}
    assert (seen["status"]["observedGeneration"], seen["status"]["appliedPods"]) == (1, 2)
    assert "pod pod-far: no pod of this uid is on this node" in seen["status"]["error"]
    assert "pod pod-net: it shares the node's network" in seen["status"]["error"]
    assert "pod pod-mesh: Istio directs its connections (container istio-proxy)" in seen["status"]["error"]
    assert (seen["then"], seen["healed"]) == ({"a": [750_000, 250_000]}, None)
    assert all(found == NOTHING for found in pods.rules.values())
    assert server.plans[NAME]["status"]["error"] == "the node agent has ended and taken its rules out"


def test_the_kill_switch_is_read_from_the_namespace(server: ApiServer, pods: FakePods, tmp_path: Path) -> None:
    server.put_plan(NAME, spec("a"))
    seen: list[dict[str, list[int]]] = []

    def act() -> None:
        wait_for(lambda: bool(pods.in_force()))
        seen.append(pods.in_force())
        server.kill_switch(True)
        wait_for(lambda: not pods.in_force())
        seen.append(pods.in_force())

    thread = during(act)
    config = server.kubeconfig(tmp_path / "config")
    module.run_agent("node-1", "fake", config, check_interval_s=1.0, drain_per_s=0, port=0)
    thread.join()
    assert seen == [{"a": [750_000, 250_000]}, {}]


def test_its_rights_are_the_requests_that_it_makes(server: ApiServer, pods: FakePods, tmp_path: Path) -> None:
    server.put_plan(NAME, spec("a"))
    thread = during(lambda: wait_for(lambda: "observedGeneration" in server.plans[NAME]["status"]))
    config = server.kubeconfig(tmp_path / "config")
    module.run_agent("node-1", "fake", config, check_interval_s=1.0, drain_per_s=0, port=0)
    thread.join()
    plans = "/apis/imbres-gym.io/v1alpha1"
    rights = {
        ("GET", f"{plans}/connectionplans"): ("imbres-gym.io", "connectionplans", "list"),
        ("WATCH", f"{plans}/connectionplans"): ("imbres-gym.io", "connectionplans", "watch"),
        ("PATCH", f"{plans}/namespaces/shop/connectionplans/{NAME}/status"): (
            "imbres-gym.io",
            "connectionplans/status",
            "patch",
        ),
        ("GET", "/api/v1/pods"): ("", "pods", "list"),
        ("GET", "/api/v1/namespaces/shop"): ("", "namespaces", "get"),
    }
    assert set(server.requests) == set(rights)
    text = (config_root() / "kubernetes" / "node-agent-rbac.yaml").read_text(encoding="utf-8")
    (role,) = (item for item in yaml.safe_load_all(text) if item["kind"] == "ClusterRole")
    granted = [
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    assert sorted(granted) == sorted(rights.values())


def test_a_port_that_is_taken_is_named(server: ApiServer, pods: FakePods, tmp_path: Path) -> None:
    config = server.kubeconfig(tmp_path / "config")
    with pytest.raises(ConfigError, match=f"--port {server.port}: Address already in use"):
        module.run_agent("node-1", "fake", config, check_interval_s=1.0, drain_per_s=0, port=server.port)


def test_a_context_that_is_not_there_is_named(server: ApiServer, pods: FakePods, tmp_path: Path) -> None:
    config = server.kubeconfig(tmp_path / "config")
    words = ["node-agent", "--node", "n", "--context", "fakes", "--kubeconfig", str(config)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "no context 'fakes'; did you mean 'fake'?" in " ".join(result.output.split())


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_and_health_are_served() -> None:
    metrics, healthy = Metrics(), [True]
    metrics.updates.labels("written").inc(3)
    server = MetricsServer(0, metrics.registry, lambda: healthy[0], "it stands still")
    try:
        code, text = fetch(server.port, "/metrics")
        assert code == 200
        assert 'imbres_node_agent_updates_total{result="written"} 3.0' in text
        assert fetch(server.port, "/healthz") == (200, "ok\n")
        healthy[0] = False
        assert fetch(server.port, "/healthz") == (503, "it stands still\n")
        assert fetch(server.port, "/other")[0] == 404
    finally:
        server.close()
