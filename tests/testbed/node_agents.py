"""The node agents on the bed: their pods, their processes, their metrics, and the rules that they have written."""

from __future__ import annotations

import functools
import os
import signal
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightkube import ApiError
from lightkube.resources.core_v1 import Pod
from live_cluster import Bed, wait_for
from prometheus_client.parser import text_string_to_metric_families

from imbres_gym.live.connection_plan import PodRules
from imbres_gym.live.node.backends import choose_backend
from imbres_gym.live.node.namespaces import Namespaces
from imbres_gym.live.node.rules import Rules, rules_of
from scripts.testbed import layout, manifests

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


def ready(pod: Any) -> bool:
    """Whether an agent runs, and has said that it is well."""
    return bool(processes_of(pod)) and any(status.ready for status in pod.status.containerStatuses or ())


def replace(bed: Bed) -> None:
    """Put new agents in the place of all, by the DaemonSet as it is now, and wait for them."""
    old = list(agents(bed).values())
    for pod in old:
        bed.client.delete(Pod, pod.metadata.name, namespace=manifests.SYSTEM)
    wait_for(lambda: not any(map(processes_of, old)), "agents ended", 40.0)
    for pod in old:
        # Not before its end: two agents of a node would undo each other's work. The kubelet alone may take a minute.
        with suppress(ApiError):
            bed.client.delete(Pod, pod.metadata.name, namespace=manifests.SYSTEM, grace_period=0)
    before = {pod.metadata.uid for pod in old}

    def replaced() -> bool:
        now = list(agents(bed).values())
        new = len(now) == len(layout.NODES) and all(ready(pod) and pod.metadata.uid not in before for pod in now)
        return new and manifests.agents_ready()

    wait_for(replaced, "new agents", 90.0)


def kill(pod: Any) -> None:
    """End all processes of the agent at once, as the kernel does if memory runs out."""
    _kill(processes_of(pod))


def kill_in_an_update(pod: Any, timeout_s: float) -> bool:
    """Kill the agent as soon as it runs a program that reads or writes rules; whether it did so in time."""
    end = time.monotonic() + timeout_s
    while len(pids := processes_of(pod)) < 2 and time.monotonic() < end:
        time.sleep(0.001)
    _kill(pids)
    return len(pids) > 1


def _kill(pids: list[int]) -> None:
    for pid in pids:
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


_backend = functools.cache(choose_backend)
"""The agents' own choice: the same programs on the same kernel."""


def rules_in(uid: str) -> Rules | None:
    """The rules in a pod's network namespace; None if they are not wholly there or not in effect."""
    with Namespaces().enter(uid) as namespace:
        found = _backend().read(namespace)
    return found.rules if found.rules is not None and found.are(found.rules) else None


def are_real(planned: Mapping[str, PodRules]) -> bool:
    """Whether the network namespaces of all planned pods have exactly the planned rules."""
    return all(rules_in(uid) == rules_of(pod) for uid, pod in planned.items())
