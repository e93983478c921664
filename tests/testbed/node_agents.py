"""The node agents on the bed: their pods, their processes, their metrics, and the rules that they have written."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightkube.resources.core_v1 import Pod
from live_cluster import Bed
from prometheus_client.parser import text_string_to_metric_families

from imbres_gym.live.connection_plan import PodRules
from imbres_gym.live.node.backends import choose_backend
from imbres_gym.live.node.namespaces import Namespaces
from imbres_gym.live.node.rules import Rules, rules_of
from scripts.testbed import manifests

METRICS_PORT = 9465


def agents(bed: Bed) -> dict[str, Any]:
    """The agents' pods by node; those that are being deleted are left out."""
    labels: dict[str, Any] = {"app.kubernetes.io/component": "node-agent"}
    pods: list[Any] = list(bed.client.list(Pod, namespace=manifests.SYSTEM, labels=labels))
    return {pod.spec.nodeName: pod for pod in pods if not pod.metadata.deletionTimestamp}


def processes_of(pod: Any) -> list[int]:
    """The agent's process and those that it has started; none while its container does not run."""
    found = []
    for file in Path("/sys/fs/cgroup/cpu").glob(f"*/kubepods/*/pod{pod.metadata.uid}/*/cgroup.procs"):
        with suppress(OSError):  # ended meanwhile
            pids = [int(pid) for pid in file.read_text(encoding="utf-8").split()]
            if any(b"imbres_gym" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
                found += pids
    return found


def kill(pod: Any) -> None:
    """End all processes of the agent at once, as the kernel does if memory runs out."""
    for pid in processes_of(pod):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def paused(bed: Bed) -> Iterator[None]:
    """Let no agent run for a while: shorter than 20 s, or its liveness probe ends it."""
    pids = [pid for pod in agents(bed).values() for pid in processes_of(pod)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def watch_failures(bed: Bed, reason: str) -> dict[str, float]:
    """How often each agent's watch has failed for a reason, as it says itself, by node."""
    found = dict.fromkeys(agents(bed), 0.0)
    for node, pod in agents(bed).items():
        with urllib.request.urlopen(f"http://{pod.status.podIP}:{METRICS_PORT}/metrics", timeout=5.0) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        for sample in (sample for family in families for sample in family.samples):
            if sample.name == "imbres_node_agent_watch_failures_total" and sample.labels["reason"] == reason:
                found[node] = sample.value
    return found


def rules_in(uid: str) -> Rules | None:
    """The rules in a pod's network namespace; None if they are not wholly there or not in effect."""
    with Namespaces().enter(uid) as namespace:
        found = choose_backend().read(namespace)
    return found.rules if found.rules is not None and found.are(found.rules) else None


def are_real(planned: Mapping[str, PodRules]) -> bool:
    """Whether the network namespaces of all planned pods have exactly the planned rules."""
    return all(rules_in(uid) == rules_of(pod) for uid, pod in planned.items())
