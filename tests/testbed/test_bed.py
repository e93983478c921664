"""The bed itself: nodes, what is measured, custom resources; and that it comes up once and can be broken and mended."""

from __future__ import annotations

import socket
import time

import pytest
from live_cluster import Bed, get, query, wait_for

from imbres_gym.live.connection_plan import GROUP, KIND, PLURAL, VERSION, PlanSpec
from scripts.testbed import bed as machine
from scripts.testbed import layout, nodes, processes, stress
from scripts.testbed.steps import BedError


def test_three_nodes_are_ready_and_as_large_as_their_quota(bed: Bed) -> None:
    from lightkube.resources.core_v1 import Node

    found = {}
    for node in bed.client.list(Node):
        assert node.metadata is not None and node.status is not None and node.status.allocatable is not None
        found[node.metadata.name] = node.status.allocatable["cpu"]
    assert found == {node.name: f"{round(1000 * layout.NODE_CORES)}m" for node in layout.NODES}


def test_up_leaves_a_running_bed_alone(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: processes.pid_of(name) for name in processes.names()}
    machine.up()
    assert {name: processes.pid_of(name) for name in processes.names()} == before
    assert "up already" in capsys.readouterr().out


def test_every_target_of_prometheus_is_up(bed: Bed) -> None:
    wait_for(lambda: set(query("up", "job", "instance").values()) == {1.0}, "all targets up", 30.0)
    assert len(query("up", "job", "instance")) >= 3 * len(layout.NODES)


def test_nodes_are_measured_by_their_names(bed: Bed) -> None:
    names = {(node.name,) for node in layout.NODES}
    for metric in ("imbres_node_cpu_utilisation", "imbres_node_network_utilisation"):
        wait_for(lambda metric=metric: set(query(metric, "node")) == names, metric, 30.0)  # type: ignore[misc]
        assert all(0.0 <= value <= 1.2 for value in query(metric, "node").values())


def test_a_best_effort_job_is_seen_on_its_node_only(bed: Bed) -> None:
    noisy, quiet = layout.NODES[0], layout.NODES[1]
    # What another test had there may still be on its way out.
    wait_for(lambda: max(query("imbres_node_cpu_utilisation", "node").values()) < 0.2, "calm", 90.0)
    before = query("imbres_node_cpu_utilisation", "node")
    stress.start(noisy, 0.3)
    try:
        wait_for(lambda: query("imbres_node_cpu_utilisation", "node")[noisy.name,] > 0.4, "noise seen", 30.0)
        now = query("imbres_node_cpu_utilisation", "node")
        assert now[noisy.name,] == pytest.approx(before[noisy.name,] + 0.3 / layout.NODE_CORES, abs=0.15)
        assert now[quiet.name,] < before[quiet.name,] + 0.15
    finally:
        stress.stop(noisy)
    wait_for(lambda: query("imbres_node_cpu_utilisation", "node")[noisy.name,] < 0.2, "noise gone", 30.0)


@pytest.mark.parametrize("cores", [0.0, -1.0, layout.NODE_CORES + 0.1, float("nan")])
def test_a_job_larger_than_its_node_is_refused(bed: Bed, cores: float) -> None:
    with pytest.raises(BedError, match="must be above 0 and at most"):
        stress.start(layout.NODES[0], cores)
    assert not processes.is_running("node1/noise")


def test_a_connection_plan_is_stored_and_a_malformed_one_refused(bed: Bed) -> None:
    from lightkube import ApiError
    from lightkube.generic_resource import create_namespaced_resource
    from lightkube.models.meta_v1 import ObjectMeta

    resource = create_namespaced_resource(GROUP, VERSION, KIND, PLURAL)
    spec = PlanSpec(node="node1", expires_after_s=30.0, pods=()).model_dump(mode="json", by_alias=True)
    name = "bed-test.node1"
    bed.client.create(resource(metadata=ObjectMeta(name=name), spec=spec), namespace="default")
    try:
        stored = bed.client.get(resource, name, namespace="default")
        assert PlanSpec.model_validate(stored.spec) == PlanSpec.model_validate(spec)
        assert stored.metadata is not None and stored.metadata.generation == 1
    finally:
        bed.client.delete(resource, name, namespace="default")
    with pytest.raises(ApiError, match="expiresAfterSeconds"):
        malformed = resource(metadata=ObjectMeta(name="malformed"), spec={**spec, "expiresAfterSeconds": "soon"})
        bed.client.create(malformed, namespace="default")


def redis(command: str) -> str:
    with socket.create_connection((layout.GATEWAY, layout.REDIS_PORT), timeout=5.0) as connection:
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(1000).decode()


def test_redis_keeps_its_data_over_a_crash(bed: Bed) -> None:
    assert redis("SET bed-test 42") == "+OK\r\n"
    time.sleep(1.5)  # its file is written every second
    processes.kill("redis")
    wait_for(lambda: not processes.is_running("redis"), "redis gone", 5.0)
    processes.restart("redis")
    wait_for(lambda: "42" in redis("GET bed-test"), "redis back", 20.0)
    redis("DEL bed-test")


@pytest.mark.parametrize("name", ["prometheus", "trace-store"])
def test_a_program_that_was_killed_comes_back(bed: Bed, name: str) -> None:
    port = {"prometheus": layout.PROMETHEUS_PORT, "trace-store": layout.TRACES_PORT}[name]
    path = {"prometheus": "/api/v1/query?query=up", "trace-store": "/api/services"}[name]
    processes.kill(name)
    wait_for(lambda: not processes.is_running(name), f"{name} gone", 5.0)
    with pytest.raises(OSError, match=r"refused|reset"):
        get(f"http://{layout.GATEWAY}:{port}{path}")
    processes.restart(name)
    wait_for(lambda: get(f"http://{layout.GATEWAY}:{port}{path}"), f"{name} back", 30.0)


def ready_nodes(bed: Bed) -> set[str]:
    from lightkube.resources.core_v1 import Node

    found = set()
    for node in bed.client.list(Node):
        assert node.metadata is not None and node.metadata.name is not None and node.status is not None
        if any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or ()):
            found.add(node.metadata.name)
    return found


def test_a_killed_node_is_noticed_and_comes_back(bed: Bed) -> None:
    victim = layout.NODES[2]
    nodes.crash(victim)
    try:
        wait_for(lambda: victim.name not in ready_nodes(bed), "node lost", 60.0)
        assert ready_nodes(bed) == {node.name for node in layout.NODES} - {victim.name}
    finally:
        nodes.revive(victim)
    wait_for(lambda: victim.name in ready_nodes(bed), "node back", 60.0)
    wait_for(machine.is_up, "bed whole", 30.0)
