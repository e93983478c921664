"""The controller as its manifests run it: a Deployment of two pods, in-cluster rights, leader election, clean end."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator

import pytest
from connection_plans import in_force, plans
from controller import bed_config
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Pod
from live_cluster import NAMESPACE, Bed, wait_for
from prometheus_client.parser import text_string_to_metric_families

from scripts.testbed import controller_pod, manifests

METRICS_PORT = 9464
Samples = dict[tuple[str, ...], float]


def get(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}:{METRICS_PORT}/{path}", timeout=5.0) as reply:
        return str(reply.read().decode())


def metrics(address: str) -> Samples:
    """A controller's metrics by name and label values."""
    families = text_string_to_metric_families(get(address, "metrics"))
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def running() -> dict[str, str]:
    """Addresses of the pods that are ready and stay, by name."""
    found = {}
    for pod in controller_pod.pods():
        statuses = pod["status"].get("containerStatuses") or ()
        if "deletionTimestamp" not in pod["metadata"] and any(status["ready"] for status in statuses):
            found[pod["metadata"]["name"]] = pod["status"]["podIP"]
    return found


def restarts() -> int:
    """How often containers of its pods have been started again."""
    return sum(s["restartCount"] for pod in controller_pod.pods() for s in pod["status"].get("containerStatuses") or ())


def leaders() -> list[str]:
    return [name for name, address in running().items() if metrics(address)["imbres_live_leader",] == 1.0]


def applied(name: str) -> float:
    """Decisions that one pod's controller has applied."""
    return metrics(running()[name]).get(("imbres_live_decisions_total", "applied"), 0.0)


def holder(bed: Bed) -> str:
    """Who holds the lease of the application, "" if nobody."""
    (lease,) = bed.client.list(Lease, namespace=NAMESPACE)
    return (lease.spec.holderIdentity if lease.spec is not None else None) or ""


@pytest.fixture
def controllers(loaded: Bed) -> Iterator[None]:
    controller_pod.start({**bed_config(), "namespace": NAMESPACE, "metrics_port": METRICS_PORT})
    yield
    controller_pod.stop()


def test_the_deployment_leads_decides_takes_over_and_leaves_the_cluster_as_found(
    loaded: Bed, controllers: None, tell: Callable[[str], None]
) -> None:
    before = loaded.replicas()
    ready_s = wait_for(lambda: len(running()) == 2, "two controllers ready", 180.0)
    assert [get(address, "healthz") for address in running().values()] == ["ok\n", "ok\n"]
    wait_for(lambda: len(leaders()) == 1, "one leads", 30.0)
    (leader,) = leaders()
    assert holder(loaded).startswith(f"{leader}_")
    decided_s = wait_for(lambda: applied(leader) > 0.0 and in_force(loaded), "its plans are in force", 120.0)
    (other,) = set(running()) - {leader}
    assert applied(other) == 0.0
    assert restarts() == 0
    tell(f"controllers as pods: ready after {ready_s:.0f} s, plans in force {decided_s:.0f} s later")

    loaded.client.delete(Pod, leader, namespace=manifests.SYSTEM)
    took_s = wait_for(lambda: holder(loaded).startswith(f"{other}_"), "the other leads", 60.0)
    again_s = wait_for(lambda: applied(other) > 0.0 and in_force(loaded), "its plans are in force", 60.0)
    tell(f"leading pod deleted: the other leads after {took_s:.0f} s, its plans are in force {again_s:.0f} s later")

    controller_pod.stop()
    assert plans(loaded) == {}
    assert loaded.replicas() == before
    assert holder(loaded) == ""
