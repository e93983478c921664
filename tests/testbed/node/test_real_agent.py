"""The agent as a process of its own, pods with real network namespaces, an API server in the test over real HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_pods import RealPod
from real_rules import SERVICE

from imbres_gym.live.node.backends import choose_backend
from imbres_gym.live.node.namespaces import Namespaces
from imbres_gym.live.node.rules import NOTHING, Found

sys.path.append(str(Path(__file__).resolve().parents[2] / "live" / "node"))

from node_fakes import ApiServer, api_pod

NAME = "shop.node-1"


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


class Node:
    """An API server, two pods and the agent between them."""

    def __init__(self, server: ApiServer, pods: list[RealPod], folder: Path) -> None:
        self.server = server
        self.pods = pods
        self.config = server.kubeconfig(folder / "config")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [sys.executable, "-m", "imbres_gym", "node-agent", "--node", "node-1", "--context", "fake"]
        words += ["--kubeconfig", str(self.config), "--check-interval", "1", "--port", "0"]
        self.process = subprocess.Popen(words, start_new_session=True)

    def end(self, how: signal.Signals) -> int:
        """Send a signal to the agent and what it runs; its exit code."""
        assert self.process is not None
        os.killpg(self.process.pid, how)
        code = self.process.wait(timeout=30.0)
        self.process = None
        return code

    def plan(self, *weights: float, pods: int = 2, expires_s: float = 60.0, renewed: str = "1") -> None:
        targets = [
            {"ip": "127.0.0.1", "port": 8081 + k, "weight": weight} for k, weight in enumerate(weights) if weight > 0.0
        ]
        service = {"service": "back", "clusterIp": SERVICE, "port": 80, "targets": targets}
        content = {
            "node": "node-1",
            "expiresAfterSeconds": expires_s,
            "pods": [{"name": f"pod-{p.uid}", "uid": p.uid, "services": [service]} for p in self.pods[:pods]],
        }
        self.server.put_plan(NAME, content, renewed=renewed)

    def reported(self) -> bool:
        """Whether the agent has reported on the plan as it is, without an error."""
        plan = self.server.plans[NAME]
        status = plan["status"]
        return status.get("observedGeneration") == plan["metadata"]["generation"] and status.get("error") is None

    def found(self, pod: RealPod) -> Found:
        with Namespaces().enter(pod.uid) as namespace:
            return choose_backend().read(namespace)

    def shares(self, pod: RealPod) -> list[int]:
        rules = self.found(pod).rules or ()
        return [destination.share for rule in rules for destination in rule.destinations]


@pytest.fixture
def node(pod: RealPod, other_pod: RealPod, tmp_path: Path) -> Iterator[Node]:
    server = ApiServer()
    server.pods = [api_pod(pod.uid), api_pod(other_pod.uid)]
    server.start()
    node = Node(server, [pod, other_pod], tmp_path)
    yield node
    if node.process is not None:
        node.end(signal.SIGKILL)
    server.stop()


def test_a_plan_gets_into_the_pods_and_out_again(node: Node) -> None:
    node.plan(3.0, 1.0)
    node.start()
    wait_for(node.reported)
    assert [node.shares(pod) for pod in node.pods] == [[750_000, 250_000]] * 2
    assert node.server.plans[NAME]["status"]["appliedPods"] == 2
    node.plan(1.0, 1.0, pods=1)
    wait_for(node.reported)
    assert node.shares(node.pods[0]) == [500_000, 500_000]
    assert node.found(node.pods[1]) == NOTHING
    assert node.end(signal.SIGTERM) == 0
    assert node.found(node.pods[0]) == NOTHING
    assert "has ended" in node.server.plans[NAME]["status"]["error"]


def test_an_agent_killed_in_the_middle_of_an_update_converges_after_its_restart(node: Node) -> None:
    node.plan(3.0, 1.0)
    node.start()
    wait_for(node.reported)
    left = set()
    for attempt in range(4):
        # Killed while the plan changes again and again.
        end = time.monotonic() + 0.2 + 0.017 * attempt
        step = 0
        while time.monotonic() < end:
            step += 1
            node.plan(1.0 + step % 7, 1.0)
            time.sleep(0.004)
        node.end(signal.SIGKILL)
        for pod in node.pods:
            found = node.found(pod)
            assert found.rules is not None
            assert found.are(found.rules)
            left.add(found.rules)
        node.plan(9.0, 1.0, renewed=f"again-{attempt}")
        started = time.monotonic()
        node.start()
        wait_for(lambda: node.reported() and node.shares(node.pods[0]) == [900_000, 100_000])
        assert time.monotonic() - started < 10.0
        assert node.shares(node.pods[1]) == [900_000, 100_000]
    assert all(len(rules) == 1 for rules in left)


def test_what_a_killed_agent_left_is_taken_out_when_no_plan_names_it(node: Node) -> None:
    node.plan(3.0, 1.0)
    node.start()
    wait_for(node.reported)
    node.end(signal.SIGKILL)
    assert node.shares(node.pods[1]) == [750_000, 250_000]
    node.plan(3.0, 1.0, pods=1)
    node.start()
    wait_for(node.reported)
    wait_for(lambda: node.found(node.pods[1]) == NOTHING)
    assert node.shares(node.pods[0]) == [750_000, 250_000]


def test_rules_survive_an_api_server_that_is_away_for_less_than_the_expiry(node: Node) -> None:
    node.plan(3.0, 1.0)
    node.start()
    wait_for(node.reported)
    node.server.stop()
    time.sleep(3.0)
    assert node.shares(node.pods[0]) == [750_000, 250_000]
    node.plan(1.0, 3.0)
    node.server.start()
    wait_for(lambda: node.shares(node.pods[0]) == [250_000, 750_000])


def test_rules_go_when_nobody_renews_them(node: Node) -> None:
    node.plan(3.0, 1.0, expires_s=3.0)
    node.start()
    wait_for(node.reported)
    wait_for(lambda: node.found(node.pods[0]) == NOTHING, 8.0)
    node.plan(3.0, 1.0, expires_s=3.0, renewed="2")
    wait_for(lambda: node.shares(node.pods[0]) == [750_000, 250_000])


def test_the_kill_switch_takes_rules_out(node: Node) -> None:
    node.plan(3.0, 1.0)
    node.start()
    wait_for(node.reported)
    node.server.kill_switch(True)
    wait_for(lambda: all(node.found(pod) == NOTHING for pod in node.pods))
    node.server.kill_switch(False)
    wait_for(node.reported)
    assert node.shares(node.pods[0]) == [750_000, 250_000]
