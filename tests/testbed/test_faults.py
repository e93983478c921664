"""Parts of the bed fail under a running controller: nothing is acted on wrongly, nothing is lost, and it recovers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import node_agents
from connection_plans import in_force, plans
from controller import Controller
from live_cluster import NAMESPACE, Bed, wait_for

from imbres_gym.live.kube import plan_resource
from scripts.testbed import bed as machine
from scripts.testbed import layout, manifests, nodes, processes

NewController = Callable[..., Controller]
Tell = Callable[[str], None]


def test_without_prometheus_the_last_plan_is_held(loaded: Bed, running: Controller, tell: Tell) -> None:
    wait_for(lambda: in_force(loaded), "plans in force", 20.0)
    processes.kill("prometheus")
    try:
        event, _ = running.wait_decision("held", 30.0, after=len(running.events()))
        assert any(reason.startswith("unreachable") for reason in event["reasons"]), event["reasons"]
        before = {name: plan.spec for name, plan in plans(loaded).items()}
        time.sleep(12.0)
        assert {name: plan.spec for name, plan in plans(loaded).items()} == before
        assert in_force(loaded)
    finally:
        processes.restart("prometheus")
    _, took_s = running.wait_decision("applied", 90.0, after=len(running.events()))
    tell(f"Prometheus back: decides again after {took_s:.0f} s")


def test_without_a_trace_store_histograms_go_on(loaded: Bed, running: Controller) -> None:
    processes.kill("trace-store")
    try:
        said = len(running.events())
        running.wait_for(lambda e: e["event"] == "decision" and e["outcome"] == "applied", "applied", 30.0, said)
    finally:
        processes.restart("trace-store")


def test_a_restarted_api_server_is_waited_for(loaded: Bed, running: Controller, tell: Tell) -> None:
    wait_for(lambda: in_force(loaded), "plans in force", 20.0)
    processes.kill("kube-apiserver")
    said = len(running.events())
    try:
        running.wait_for(
            lambda e: e["event"] == "decision" and any("api" in r for r in e["reasons"] + e["errors"]),
            "api",
            40.0,
            said,
        )
    finally:
        processes.restart("kube-apiserver")
    said = len(running.events())
    _, took_s = running.wait_decision("applied", 90.0, after=said)
    tell(f"API server back: decides again after {took_s:.0f} s")
    wait_for(lambda: in_force(loaded), "plans in force", 60.0)
    wait_for(machine.is_up, "bed whole", 90.0)


def test_a_killed_node_agent_comes_back_to_the_same_rules(loaded: Bed, running: Controller, tell: Tell) -> None:
    wait_for(lambda: in_force(loaded), "plans in force", 20.0)
    victims = node_agents.agents(loaded)
    assert len(victims) == len(layout.NODES)
    for pod in victims.values():
        node_agents.kill(pod)
    wait_for(lambda: not manifests.agents_ready(), "agents gone", 30.0, pause_s=0.1)
    took_s = wait_for(lambda: manifests.agents_ready() and in_force(loaded), "agents back", 90.0)
    tell(f"node agents killed: plans in force again after {took_s:.0f} s")


def test_a_killed_controller_finds_what_it_left(loaded: Bed, running: Controller, tell: Tell) -> None:
    left = {name: plan.spec for name, plan in plans(loaded).items()}
    before = loaded.replicas()
    running.kill()
    assert {name: plan.spec for name, plan in plans(loaded).items()} == left
    said = len(running.events())
    running.start()
    event, took_s = running.wait_for(lambda e: e["event"] == "start", "started again", 150.0, said)
    assert event["plans_found"], event
    _, again_s = running.wait_decision("applied", 120.0, after=said)
    tell(f"killed controller: leads again after {took_s:.0f} s, decides {again_s:.0f} s later")
    assert running.stop() == 0
    assert plans(loaded) == {}
    assert loaded.replicas() == before


def test_of_two_controllers_one_acts_and_the_other_takes_over(
    loaded: Bed, running: Controller, new_controller: NewController, tell: Tell
) -> None:
    second = new_controller()
    second.start()
    second.wait_for(lambda e: e["event"] == "standby", "standby", 120.0)
    time.sleep(12.0)
    assert [e["event"] for e in second.events()] == ["standby"]
    running.kill()
    _, took_s = second.wait_for(lambda e: e["event"] == "start", "takes over", 60.0)
    tell(f"leader killed: the other leads after {took_s:.0f} s")
    second.wait_decision("applied", 60.0)


def test_an_evicted_pod_is_left_out_of_the_plans(loaded: Bed, running: Controller, tell: Tell) -> None:
    from lightkube.resources.core_v1 import Pod

    victim = loaded.pods("pricing")[0]
    address = victim.status.podIP
    loaded.client.delete(Pod, victim.metadata.name, namespace=NAMESPACE)

    def targets() -> set[str]:
        found = set()
        for plan in plans(loaded).values():
            for pod in plan.spec["pods"]:
                found |= {target["ip"] for service in pod["services"] for target in service["targets"]}
        return found

    took_s = wait_for(lambda: address not in targets() and in_force(loaded), "left out", 30.0)
    tell(f"evicted pod: in no plan after {took_s:.1f} s; it serves on for 10 s")
    wait_for(lambda: loaded.ready("pricing") == 3, "replaced", 90.0)


def test_a_malformed_plan_is_refused_and_the_good_one_stays(loaded: Bed, running: Controller) -> None:
    from lightkube.models.meta_v1 import ObjectMeta

    wait_for(lambda: in_force(loaded), "plans in force", 20.0)
    good = next(iter(plans(loaded).values()))
    resource = plan_resource()
    twice = {**good.spec, "pods": good.spec["pods"] * 2}
    name = f"malformed.{good.spec['node']}"
    loaded.client.create(resource(metadata=ObjectMeta(name=name), spec=twice), namespace=NAMESPACE)
    try:

        def said() -> str:
            status = loaded.client.get(resource, name, namespace=NAMESPACE).status
            return str((status or {}).get("error", ""))

        wait_for(said, "refused", 20.0)
        assert "twice" in said()
        wait_for(lambda: in_force(loaded), "good plans in force", 20.0)
    finally:
        loaded.client.delete(resource, name, namespace=NAMESPACE)


def test_a_metric_that_is_not_a_number_holds_the_last_plan(loaded: Bed, new_controller: NewController) -> None:
    controller = new_controller(
        prometheus={
            "url": f"http://{layout.GATEWAY}:{layout.PROMETHEUS_PORT}",
            "queries": {"node_cpu": "imbres_node_cpu_utilisation * NaN"},
        }
    )
    controller.start()
    event, _ = controller.wait_decision("held", 150.0)
    assert any(reason.startswith("partial") for reason in event["reasons"]), event
    assert sum(event["measured"]["dropped"].values()) >= len(layout.NODES)
    assert plans(loaded) == {}


def test_too_few_rights_are_refused_before_anything_is_done(
    loaded: Bed, new_controller: NewController, kubeconfig: Path
) -> None:
    before = loaded.replicas()
    config = new_controller(namespace="kube-system").command()
    done = subprocess.run([*config, "--duration", "10s"], capture_output=True, text=True, timeout=150.0)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "forbidden" in done.stderr
    assert loaded.replicas() == before
    doctor = subprocess.run(
        new_controller(namespace="kube-system").command("doctor"), capture_output=True, text=True, timeout=150.0
    )
    assert doctor.returncode == 1
    assert "forbidden" in doctor.stdout
    assert "to fix." in doctor.stdout


def test_a_restarted_and_wiped_redis_loses_no_decision(
    loaded: Bed, new_controller: NewController, tmp_path: Path
) -> None:
    import yaml

    from imbres_gym.config import config_root

    agent = yaml.safe_load((config_root() / "agents/imbres.yaml").read_text(encoding="utf-8"))
    agent["options"]["table"] = {"redis": f"redis://{layout.GATEWAY}:{layout.REDIS_PORT}/0"}
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(agent), encoding="utf-8")
    controller = new_controller(agent=str(file))
    controller.start()
    controller.wait_decision("applied", 150.0)
    wait_for(lambda: _redis("DBSIZE").strip() != ":0", "table in Redis", 60.0)
    processes.kill("redis")
    controller.wait_decision("applied", 30.0, after=len(controller.events()))
    processes.restart("redis")
    wait_for(lambda: _redis("FLUSHALL").startswith("+OK"), "redis back", 20.0)
    controller.wait_decision("applied", 30.0, after=len(controller.events()))
    wait_for(lambda: _redis("DBSIZE").strip() != ":0", "table in Redis again", 60.0)


def _redis(command: str) -> str:
    import socket

    with socket.create_connection((layout.GATEWAY, layout.REDIS_PORT), timeout=5.0) as connection:
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(1000).decode()


def test_the_kill_switch_stops_everything(loaded: Bed, running: Controller, tell: Tell) -> None:
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Namespace

    from imbres_gym.live.connection_plan import KILL_SWITCH

    def turn(value: str | None) -> None:
        meta = ObjectMeta(annotations={KILL_SWITCH: value})  # type: ignore[dict-item]
        loaded.client.patch(Namespace, NAMESPACE, Namespace(metadata=meta))

    turn("true")
    try:
        event, _ = running.wait_decision("held", 30.0, after=len(running.events()))
        assert any(reason.startswith("kill-switch") for reason in event["reasons"]), event["reasons"]
    finally:
        turn(None)
    _, took_s = running.wait_decision("applied", 60.0, after=len(running.events()))
    tell(f"kill switch off: decides again after {took_s:.0f} s")


def test_a_killed_node_is_planned_around_and_planned_for_when_it_is_back(
    loaded: Bed, running: Controller, tell: Tell
) -> None:
    victim = layout.NODES[2]
    nodes.crash(victim)
    try:

        def uses_it() -> bool:
            prefix = victim.pods.removesuffix("0/24")
            return any(
                target["ip"].startswith(prefix)
                for name, plan in plans(loaded).items()
                if not name.endswith(victim.name)
                for pod in plan.spec["pods"]
                for service in pod["services"]
                for target in service["targets"]
            )

        took_s = wait_for(lambda: not uses_it(), "node left out", 90.0)
        tell(f"node killed: in no other node's plan after {took_s:.0f} s")
    finally:
        nodes.revive(victim)
    names = loaded.application.microservices
    back_s = wait_for(
        lambda: machine.is_up() and all(loaded.ready(name) == 3 for name in names), "all ready again", 240.0
    )
    tell(f"node back: all containers ready after {back_s:.0f} s")
    running.wait_decision("applied", 60.0, after=len(running.events()))
