"""Node agents whose wall clocks are two hours apart: plans are in force as long as they are renewed, and no longer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

import node_agents
import pytest
from connection_plans import PlanWriter, in_force, plans
from live_cluster import Bed, served_by_pod, wait_for

from scripts.testbed import api, layout, manifests, skewed_clock

OFFSETS_S = (3600, -3600, 0)
EXPIRES_S = 8.0
LATE_S = 2.5
"""An agent looks every second whether a plan has expired; the rest is for a busy machine."""
CLOCKS = layout.RUN / "clocks"
DAEMON_SET = f"{manifests.PLACES['DaemonSet'].format(namespace=manifests.SYSTEM)}/{manifests.AGENTS}"
TEMPLATE, STRATEGY = "/spec/template", "/spec/updateStrategy"


def patch(*operations: api.Json) -> None:
    """Patch the agents' DaemonSet, and wait until that is known to Kubernetes' controller."""
    api.request("PATCH", DAEMON_SET, list(operations), "application/json-patch+json")

    def known() -> bool:
        item = api.get(DAEMON_SET)
        return bool(item["status"]["observedGeneration"] == item["metadata"]["generation"])

    wait_for(known, "DaemonSet taken over", 10.0, pause_s=0.05)


@pytest.fixture
def offsets_s(loaded: Bed) -> Iterator[dict[str, int]]:
    """How far the clock of each node's agent is off: every agent loads the library of its node's name."""
    callers = Counter(pod.spec.nodeName for pod in loaded.pods("frontend"))
    # Only nodes with callers have plans, and those are two at least: wrong clocks go there first.
    names = sorted((node.name for node in layout.NODES), key=lambda name: -callers[name])
    offsets_s = dict(zip(names, OFFSETS_S, strict=True))
    found = api.get(DAEMON_SET)["spec"]
    CLOCKS.mkdir(exist_ok=True)
    for node, offset_s in offsets_s.items():
        skewed_clock.build(CLOCKS / f"{node}.so", offset_s)
    container = f"{TEMPLATE}/spec/containers/0"
    volume = {"name": "clocks", "hostPath": {"path": str(CLOCKS)}}
    mount = {"name": "clocks", "mountPath": "/clocks", "readOnly": True}
    preload = {"name": "LD_PRELOAD", "value": "/clocks/$(NODE_NAME).so"}
    try:
        patch(
            # Else it begins to replace them one by one, which takes minutes.
            {"op": "replace", "path": STRATEGY, "value": {"type": "OnDelete"}},
            {"op": "add", "path": f"{TEMPLATE}/spec/volumes/-", "value": volume},
            {"op": "add", "path": f"{container}/volumeMounts/-", "value": mount},
            {"op": "add", "path": f"{container}/env/-", "value": preload},
        )
        node_agents.replace(loaded)
        yield offsets_s
    finally:
        patch({"op": "replace", "path": TEMPLATE, "value": found["template"]})
        node_agents.replace(loaded)
        patch({"op": "replace", "path": STRATEGY, "value": found["updateStrategy"]})


def clock_errors(bed: Bed) -> dict[str, float]:
    """Node -> how far the time in the status of its plan is off, if it was written right now [s]."""
    found = {}
    for plan in plans(bed).values():
        written = datetime.fromisoformat(plan.status["appliedAt"]).timestamp()
        found[plan.spec["node"]] = written - time.time()
    return found


def test_plans_are_in_force_as_long_as_they_are_renewed_whatever_the_time_of_day(
    offsets_s: dict[str, int], loaded: Bed, writer: PlanWriter, tell: Callable[[str], None]
) -> None:
    weights = dict(zip(sorted(served_by_pod(loaded, "pricing")), (0.6, 0.3, 0.1), strict=True))
    planned = writer.write(weights, EXPIRES_S)
    wait_for(lambda: in_force(loaded) and node_agents.are_real(planned), "plans in force", 20.0, pause_s=0.1)
    errors = clock_errors(loaded)
    assert len(errors) > 1
    assert errors == {node: pytest.approx(offsets_s[node], abs=60.0) for node in errors}

    end = time.monotonic() + 2.5 * EXPIRES_S
    while time.monotonic() < end:
        time.sleep(1.0)
        writer.write(weights, EXPIRES_S)
        assert node_agents.are_real(planned)
    began = time.monotonic()
    while time.monotonic() < began + EXPIRES_S - 1.0:
        assert node_agents.are_real(planned)
        time.sleep(0.2)
    wait_for(lambda: all(node_agents.rules_in(uid) == () for uid in planned), "rules out", 1.0 + LATE_S, pause_s=0.1)
    tell(f"agents' clocks two hours apart: out of force {time.monotonic() - began:.1f} s after the last sign of life")
