"""`imbres-gym live doctor`: a healthy bed passes, and each thing that is missing is named with a fix."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live_bed import NAMESPACE, Bed
from typer.testing import CliRunner, Result

from imbres_gym.cli import app
from imbres_gym.live.connection_plan import KILL_SWITCH
from imbres_gym.live.doctor import Check, examine
from imbres_gym.live.rights import RIGHTS


@contextlib.contextmanager
def node_agents(bed: Bed, error: str | None = None, but: str = "") -> Iterator[None]:
    """Report on every plan as node agents do."""
    over = threading.Event()

    def report() -> None:
        while not over.wait(0.01):
            for plan in bed.kubernetes.of("connectionplans"):
                if plan["spec"]["node"] != but:
                    plan["status"] = {"observedGeneration": plan["metadata"]["generation"], "error": error}

    thread = threading.Thread(target=report)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def checks(bed: Bed, **changes: Any) -> dict[str, Check]:
    """Name -> the first check of that name which failed, or else the last one."""
    config = bed.config(**changes)
    found: dict[str, Check] = {}
    for check in examine(config, "bed", bed.kubernetes.kubeconfig(bed.folder), wait_s=0.3):
        if check.name not in found or found[check.name].ok:
            found[check.name] = check
    return found


def doctor(bed: Bed) -> Result:
    words = [
        "--config",
        str(bed.config_file()),
        "--context",
        "bed",
        "--kubeconfig",
        str(bed.kubernetes.kubeconfig(bed.folder)),
    ]
    return CliRunner().invoke(app, ["live", "doctor", *words])


def test_a_healthy_cluster_passes_and_is_left_alone(bed: Bed) -> None:
    with node_agents(bed):
        result = doctor(bed)
    assert result.exit_code == 0, result.output
    assert result.output.endswith("Ready to run.\n")
    assert "FAIL" not in result.output
    assert bed.plans() == {}
    assert {path for _, path in bed.kubernetes.writes if "connectionplans" not in path} == set()


def test_plans_that_are_there_are_left_there(bed: Bed) -> None:
    spec = {"node": "node-a", "expiresAfterSeconds": 30.0, "pods": []}
    labels = {"imbres-gym.io/application": "shop"}
    bed.kubernetes.put(
        "connectionplans", {"metadata": {"name": "shop.node-a", "labels": labels}, "spec": spec}, NAMESPACE
    )
    with node_agents(bed):
        assert checks(bed)["node agents"].ok
    assert set(bed.plans()) == {"shop.node-a"}


SICK: dict[str, tuple[Callable[[Bed], Any], str, str]] = {
    "right": (
        lambda bed: bed.kubernetes.denied.add("patch deployments/scale"),
        "rights",
        "missing: patch deployments/scale (scaling); fix: apply",
    ),
    "namespace": (
        lambda bed: bed.kubernetes.objects.pop(("namespaces", "", NAMESPACE)),
        "kubernetes",
        "there is no namespace 'shop'",
    ),
    "refused": (lambda bed: setattr(bed.kubernetes, "fail", lambda m, p: 403), "kubernetes", "controller-rbac.yaml"),
    "deployment": (
        lambda bed: bed.kubernetes.objects.pop(("deployments", NAMESPACE, "cart")),
        "application",
        "cart: no Deployment in namespace 'shop' has the labels",
    ),
    "not ready": (
        lambda bed: bed.pods("cart")[0]["status"].update(conditions=[]),
        "application",
        "8 of 9 containers ready",
    ),
    "kill switch": (
        lambda bed: bed.kubernetes.put(
            "namespaces", {"metadata": {"name": NAMESPACE, "annotations": {KILL_SWITCH: "true"}}}
        ),
        "kill switch",
        "it is on",
    ),
    "autoscaler": (
        lambda bed: bed.kubernetes.put(
            "horizontalpodautoscalers",
            {
                "metadata": {"name": "cart"},
                "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "cart"}, "maxReplicas": 3},
            },
            NAMESPACE,
        ),
        "autoscalers",
        "an autoscaler scales cart",
    ),
    "custom resource": (
        lambda bed: bed.kubernetes.missing_groups.add("imbres-gym.io/v1alpha1"),
        "connection plans",
        "configs/kubernetes/crd.yaml",
    ),
    "prometheus": (lambda bed: setattr(bed.prometheus, "broken", (502, b"")), "prometheus", "prometheus.url"),
    "metric": (
        lambda bed: bed.replaced.update({"imbres_requests_total": []}),
        "metric requests",
        "correct prometheus.queries.requests",
    ),
    "telemetry": (
        lambda bed: bed.replaced.update({"imbres_node_cpu_utilisation": [({"node": "node-a"}, 0.1)]}),
        "telemetry",
        "the CPU use of 2 of 3 nodes is not known",
    ),
}


@pytest.mark.parametrize("what", SICK)
def test_what_is_missing_is_named_with_a_fix(bed: Bed, what: str) -> None:
    hurt, name, said = SICK[what]
    hurt(bed)
    with node_agents(bed):
        found = checks(bed)
    assert not found[name].ok
    assert said in found[name].line()
    assert found[name].line().startswith("FAIL ")


def test_a_node_without_an_agent_is_named(bed: Bed) -> None:
    with node_agents(bed, but="node-b"):
        check = checks(bed)["node agents"]
    assert not check.ok and check.detail == "no answer from node-b in 0.3 s"
    assert bed.plans() == {}


def test_a_plan_that_a_running_controller_takes_away_is_no_answer(bed: Bed) -> None:
    def take_away(method: str, path: str) -> None:
        if method == "GET" and path.endswith("/connectionplans"):
            bed.kubernetes.objects.pop(("connectionplans", NAMESPACE, "shop.node-b"), None)

    bed.kubernetes.fail = take_away
    with node_agents(bed):
        check = checks(bed)["node agents"]
    assert not check.ok and check.detail == "no answer from node-b in 0.3 s"
    assert bed.plans() == {}


def test_what_an_agent_complains_about_is_passed_on(bed: Bed) -> None:
    with node_agents(bed, error="no iptables"):
        check = checks(bed)["node agents"]
    assert not check.ok and "node-a: no iptables" in check.detail


def test_a_missing_optional_metric_is_fine_and_said(bed: Bed) -> None:
    with node_agents(bed):
        check = checks(bed)["metric node_llc"]
    assert check.ok and check.detail == "nothing: interference by the last-level cache counts as 0"


def test_a_redis_that_is_away_is_named(bed: Bed) -> None:
    with node_agents(bed):
        check = checks(bed, redis="redis://127.0.0.1:1/0")["redis"]
    assert not check.ok and "fix: start it, or correct the key redis" in check.line()


def test_a_jaeger_without_traces_is_named(bed: Bed) -> None:
    from fake_telemetry import FakeJaeger

    jaeger = FakeJaeger()
    jaeger.answers["/api/traces"] = (200, {"data": []})
    try:
        with node_agents(bed):
            check = checks(bed, jaeger={"url": jaeger.url})["jaeger"]
    finally:
        jaeger.close()
    assert not check.ok and "no recent trace of front" in check.detail


def test_an_agent_that_cannot_run_live_is_named(bed: Bed) -> None:
    with node_agents(bed):
        assert "simulator" in checks(bed, agent="oracle")["agent"].detail


def test_the_exit_code_says_that_something_is_to_be_fixed(bed: Bed) -> None:
    bed.prometheus.broken = (502, b"")
    with node_agents(bed):
        result = doctor(bed)
    assert result.exit_code == 1
    assert result.output.endswith("1 to fix.\n")


def test_head_may_close_the_pipe(bed: Bed) -> None:
    words = [
        "--config",
        str(bed.config_file()),
        "--context",
        "bed",
        "--kubeconfig",
        str(bed.kubernetes.kubeconfig(bed.folder)),
    ]
    command = [sys.executable, "-m", "imbres_gym", "live", "doctor", *words]
    with node_agents(bed):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("ok   agent")
        process.stdout.close()
        process.wait(timeout=30)
    assert process.stderr.read() == ""
    process.stderr.close()


def test_rights_are_listed_once() -> None:
    asked = [(right.group, right.resource, right.subresource, verb) for right in RIGHTS for verb in right.verbs]
    assert len(set(asked)) == len(asked)
