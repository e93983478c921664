"""What a live cluster never does: act blind, act twice, act too much, fight others, or leave a mess."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from io import StringIO
from typing import Any

import numpy as np
import pytest
from live_bed import NAMES, NAMESPACE, Bed

from imbres_gym.config import ConfigError
from imbres_gym.live.cluster import LiveCluster
from imbres_gym.live.config import Safety
from imbres_gym.live.connection_plan import KILL_SWITCH, RENEWED
from imbres_gym.live.journal import Journal
from imbres_gym.live.lease import LeadershipLost
from imbres_gym.live.safety import Guard, bounded_replicas
from imbres_gym.plan import Balancer, ConnectionPlan, Links, Plan

Make = Callable[..., LiveCluster]
HALF = np.array([[0.5, 0.25, 0.25]] * 3)
OTHER = np.array([[0.25, 0.5, 0.25]] * 3)
MORE = np.array([3, 4, 3])


class Log:
    """A journal in memory."""

    def __init__(self) -> None:
        self._text = StringIO()
        self.journal = Journal([self._text])

    def events(self, kind: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in self._text.getvalue().splitlines()]
        return [event for event in events if event["event"] == kind]

    def decisions(self) -> list[dict[str, Any]]:
        return self.events("decision")


def weights(bed: Bed) -> dict[str, list[float]]:
    """Node -> weights of the first rule of its plan."""
    return {
        plan["spec"]["node"]: [target["weight"] for target in plan["spec"]["pods"][0]["services"][0]["targets"]]
        for plan in bed.plans().values()
    }


def targets(bed: Bed) -> set[str]:
    """Addresses that any rule sends to."""
    pods = [pod for plan in bed.plans().values() for pod in plan["spec"]["pods"]]
    return {target["ip"] for pod in pods for service in pod["services"] for target in service["targets"]}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("current", "ready", "wanted", "given", "reason"),
    [
        (4, 4, 6, 6, ""),
        (4, 4, 12, 8, "max_scale_out"),
        (4, 4, 99, 8, "max_scale_out"),
        (1, 1, 5, 2, "max_scale_out"),
        (4, 2, 8, 4, "max_scale_out"),  # those asked for before are not ready yet
        (4, 0, 8, 4, "max_scale_out"),
        (8, 8, 1, 6, "max_scale_in_share"),
        (2, 2, 1, 1, ""),
        (19, 19, 25, 20, "min/max"),
        (2, 2, 0, 1, "min/max"),
        (5, 5, 5, 5, ""),
    ],
)
def test_one_decision_changes_replicas_by_so_much_at_most(
    current: int, ready: int, wanted: int, given: int, reason: str
) -> None:
    assert bounded_replicas(current, ready, wanted, (1, 20), Safety()) == (given, reason)


def test_a_guard_freezes_after_failures_in_a_row_and_thaws_when_healthy() -> None:
    guard = Guard(Safety(freeze_after=2, thaw_after=2))
    seen = []
    for failed in (True, False, True, True, False, True, False, False):
        guard.record(failed)
        seen.append(guard.frozen)
    assert seen == [False, False, False, True, True, True, True, False]


BLIND: dict[str, Callable[[Bed], None]] = {
    "unreachable": lambda bed: setattr(bed.prometheus, "broken", (500, b"out of memory")),
    "partial: 9 of 9": lambda bed: bed.replaced.update({"imbres_requests_total": []}),
    "partial: no container": lambda bed: bed.replaced.update({"imbres_requests_total": []}),
    "stale": lambda bed: bed.replaced.update(
        {"imbres_own_latency_seconds_count": [({"pod": p["metadata"]["name"]}, 0.0) for p in bed.kubernetes.of("pods")]}
    ),
    "partial: the CPU use of 3": lambda bed: bed.replaced.update({"imbres_node_cpu_utilisation": []}),
    "partial: requests enter": lambda bed: bed.replaced.update({"imbres_e2e_latency_seconds_bucket": []}),
    "contradictory": lambda bed: bed.replaced.update(
        {
            "imbres_requests_total": [
                ({"pod": p["metadata"]["name"]}, 0.0 if "front" in p["metadata"]["name"] else 5.0)
                for p in bed.kubernetes.of("pods")
            ]
        }
    ),
}


@pytest.mark.parametrize("reason", [name for name in BLIND if name != "partial: 9 of 9"])
def test_the_last_plan_is_held_on_bad_telemetry(bed: Bed, make_live: Make, reason: str) -> None:
    log = Log()
    cluster = make_live(journal=log.journal)
    cluster.reset(0)
    cluster.apply(Plan(proportions=HALF))
    before = weights(bed)
    BLIND[reason](bed)
    cluster.advance(5.0)
    cluster.apply(Plan(proportions=OTHER, replicas=MORE))
    assert log.decisions()[-1]["outcome"] == "held"
    assert any(found.startswith(reason) for found in log.decisions()[-1]["reasons"])
    assert weights(bed) == before
    assert bed.replicas("cart") == 3
    bed.replaced.clear()
    bed.prometheus.broken = None
    cluster.advance(5.0)
    cluster.apply(Plan(proportions=OTHER, replicas=MORE))
    assert log.decisions()[-1]["outcome"] == "applied"
    assert bed.replicas("cart") == 4


def test_a_single_nan_is_no_reason_to_hold(bed: Bed, make_live: Make) -> None:
    log = Log()
    cluster = make_live(journal=log.journal)
    cluster.reset(0)
    series = [({"pod": p["metadata"]["name"]}, 10.0) for p in bed.kubernetes.of("pods")]
    bed.replaced["imbres_requests_total"] = [*series[:-1], (series[-1][0], float("nan"))]
    telemetry = cluster.advance(5.0)
    cluster.apply(Plan(proportions=HALF))
    assert log.decisions()[-1]["outcome"] == "applied"
    assert log.decisions()[-1]["measured"]["dropped"] == {"not-a-number": 1}
    assert np.all(np.isfinite(telemetry.load_rps))


def test_held_plans_are_still_renewed_and_follow_the_pods(bed: Bed, make_live: Make) -> None:
    cluster = make_live()
    cluster.reset(0)
    cluster.apply(Plan(proportions=HALF))
    renewed = {name: plan["metadata"]["annotations"][RENEWED] for name, plan in bed.plans().items()}
    bed.prometheus.broken = (500, b"")
    (gone,) = [pod for pod in bed.pods("cart") if pod["spec"]["nodeName"] == "node-a"]
    del bed.kubernetes.objects["pods", NAMESPACE, gone["metadata"]["name"]]
    cluster.advance(5.0)
    cluster.apply(Plan())
    for name, plan in bed.plans().items():
        assert plan["metadata"]["annotations"][RENEWED] != renewed[name]
    assert targets(bed) and gone["status"]["podIP"] not in targets(bed)


def test_a_container_that_goes_between_two_intervals_gets_no_calls(bed: Bed, make_live: Make) -> None:
    log = Log()
    cluster = make_live(journal=log.journal)
    cluster.reset(0)
    cluster.apply(Plan(proportions=HALF))
    gone = bed.pods("cart")[0]
    sleep, seen = cluster._sleep, []

    def evict_then_sleep(seconds: float) -> None:
        if not seen:
            gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        seen.append(seconds)
        sleep(seconds)
        assert len(seen) < 2 or gone["status"]["podIP"] not in targets(bed)

    cluster._sleep = evict_then_sleep
    cluster.advance(5.0)
    assert seen == [1.0] * 5
    assert [event["gone"] for event in log.events("upkeep")] == [[gone["metadata"]["name"]]]


def test_a_plan_that_is_right_is_not_written_again(bed: Bed, make_live: Make) -> None:
    cluster = make_live()
    cluster.reset(0)
    cluster.apply(Plan(proportions=HALF))
    generations = {name: plan["metadata"]["generation"] for name, plan in bed.plans().items()}
    for _ in range(3):
        cluster.advance(5.0)
        cluster.apply(Plan(proportions=HALF))
    assert {name: plan["metadata"]["generation"] for name, plan in bed.plans().items()} == generations


def test_a_plan_that_somebody_changed_or_deleted_is_put_right(bed: Bed, make_live: Make) -> None:
    cluster = make_live()
    cluster.reset(0)
    cluster.apply(Plan(proportions=HALF))
    right = {name: copy.deepcopy(plan["spec"]) for name, plan in bed.plans().items()}
    bed.kubernetes.get("connectionplans", "shop.node-a", NAMESPACE)["spec"]["pods"] = []
    del bed.kubernetes.objects["connectionplans", NAMESPACE, "shop.node-b"]
    cluster.advance(5.0)
    cluster.apply(Plan(proportions=HALF))
    assert {name: plan["spec"] for name, plan in bed.plans().items()} == right


def test_the_kill_switch_stops_every_change(bed: Bed, make_live: Make) -> None:
    log = Log()
    cluster = make_live(journal=log.journal)
    cluster.reset(0)
    cluster.apply(Plan(proportions=HALF))
    bed.kubernetes.put("namespaces", {"metadata": {"name": NAMESPACE, "annotations": {KILL_SWITCH: "true"}}})
    telemetry = cluster.advance(5.0)
    # The node agents take their rules out by themselves.
    assert telemetry.proportions == pytest.approx(1.0 / 3.0)
    bed.kubernetes.writes.clear()
    cluster.apply(Plan(proportions=OTHER, replicas=MORE))
    assert [path for _, path in bed.kubernetes.writes if "leases" not in path] == []
    assert log.decisions()[-1]["reasons"] == ["kill-switch"]
    bed.kubernetes.put("namespaces", {"metadata": {"name": NAMESPACE, "annotations": {}}})
    cluster.advance(5.0)
    cluster.apply(Plan(proportions=OTHER, replicas=MORE))
    assert bed.replicas("cart") == 4
    assert weights(bed)["node-a"] == pytest.approx([0.25, 0.5, 0.25])


def test_it_freezes_after_repeated_failures_and_thaws(bed: Bed, make_live: Make) -> None:
    log = Log()
    cluster = make_live({"safety": {"freeze_after": 2, "thaw_after": 2}}, journal=log.journal)
    cluster.reset(0)
    bed.kubernetes.fail = lambda method, path: 500 if method != "GET" and "deployments" in path else None
    for _ in range(2):
        cluster.apply(Plan(replicas=MORE))
        cluster.advance(5.0)
    assert cluster.reasons == ("frozen",)
    assert [decision["outcome"] for decision in log.decisions()] == ["failed", "failed"]
    bed.kubernetes.fail = lambda method, path: None
    for _ in range(2):
        cluster.apply(Plan(replicas=MORE))
        cluster.advance(5.0)
        assert bed.replicas("cart") == 3
    assert cluster.reasons == ()
    cluster.apply(Plan(replicas=MORE))
    assert bed.replicas("cart") == 4


def test_the_api_server_may_go_away_and_come_back(bed: Bed, make_live: Make) -> None:
    log = Log()
    cluster = make_live(journal=log.journal)
    cluster.reset(0)
    bed.kubernetes.fail = lambda method, path: None if "leases" in path else 503
    telemetry = cluster.advance(5.0)
    cluster.apply(Plan(proportions=HALF, replicas=MORE))
    assert telemetry.ready.sum() == 9
    assert log.decisions()[-1]["reasons"][0].startswith("api:")
    bed.kubernetes.fail = lambda method, path: None
    cluster.advance(5.0)
    cluster.apply(Plan(proportions=HALF, replicas=MORE))
    assert bed.replicas("cart") == 4


def test_what_a_node_agent_reports_is_said(bed: Bed, make_live: Make) -> None:
    log = Log()
    cluster = make_live(journal=log.journal)
    cluster.reset(0)
    cluster.apply(Plan(proportions=HALF))
    bed.kubernetes.get("connectionplans", "shop.node-b", NAMESPACE)["status"] = {
        "observedGeneration": 1,
        "error": "iptables-restore: no such chain",
    }
    cluster.advance(5.0)
    cluster.apply(Plan(proportions=HALF))
    assert log.decisions()[-1]["node_agents"] == {"node-b": "iptables-restore: no such chain"}


@pytest.mark.parametrize(("ill", "frozen"), [(1, False), (2, True)])
def test_too_many_ill_node_agents_freeze_it(bed: Bed, make_live: Make, ill: int, frozen: bool) -> None:
    cluster = make_live({"safety": {"freeze_after": 2, "min_coverage": 0.5}})
    cluster.reset(0)
    for _ in range(3):
        cluster.apply(Plan(proportions=HALF))
        for name in sorted(bed.plans())[:ill]:
            bed.plans()[name]["status"] = {"observedGeneration": 1, "error": "no iptables"}
        cluster.advance(5.0)
    assert (cluster.reasons == ("frozen",)) == frozen


def test_a_node_agent_that_stays_silent_is_noticed(bed: Bed, make_live: Make) -> None:
    log = Log()
    cluster = make_live({"safety": {"plan_expires_s": 10.0}}, journal=log.journal)
    cluster.reset(0)
    for _ in range(5):
        cluster.apply(Plan(proportions=HALF))
        for name, plan in bed.plans().items():
            if name != "shop.node-c":
                plan["status"] = {"observedGeneration": plan["metadata"]["generation"]}
        cluster.advance(5.0)
    assert log.decisions()[-1]["node_agents"] == {"node-c": "has not applied a plan for 10 s"}


def test_an_autoscaler_keeps_its_deployment(bed: Bed, make_live: Make) -> None:
    log = Log()
    cluster = make_live(journal=log.journal)
    cluster.reset(0)
    target = {"kind": "Deployment", "name": "cart", "apiVersion": "apps/v1"}
    spec = {"scaleTargetRef": target, "maxReplicas": 5}
    bed.kubernetes.put("horizontalpodautoscalers", {"metadata": {"name": "cart"}, "spec": spec}, NAMESPACE)
    cluster.apply(Plan(replicas=np.array([3, 4, 4])))
    assert [bed.replicas(name) for name in NAMES] == [3, 3, 4]
    assert log.decisions()[-1]["replicas"][0]["reasons"] == ["hpa"]


@pytest.mark.parametrize("version", ["policy/v1", "policy/v1beta1"])
@pytest.mark.parametrize(
    ("selector", "left"),
    [
        ({"matchLabels": {"imbres-gym.io/microservice": "cart"}}, 7),
        ({"matchExpressions": [{"key": "imbres-gym.io/microservice", "operator": "In", "values": ["cart"]}]}, 7),
        ({"matchLabels": {"imbres-gym.io/microservice": "stock"}}, 6),
        ({"matchExpressions": [{"key": "imbres-gym.io/microservice", "operator": "NotIn", "values": ["cart"]}]}, 6),
        ({}, 7),
    ],
)
def test_a_disruption_budget_is_respected(
    bed: Bed, make_live: Make, version: str, selector: dict[str, Any], left: int
) -> None:
    if version == "policy/v1beta1":
        bed.kubernetes.missing_groups.add("policy/v1")
    cart = bed.kubernetes.get("deployments", "cart", NAMESPACE)
    cart["spec"]["replicas"] = 8
    bed.kubernetes.reconcile(cart)
    budget = {"metadata": {"name": "b"}, "spec": {"selector": selector}, "status": {"disruptionsAllowed": 1}}
    bed.kubernetes.put("poddisruptionbudgets", budget, NAMESPACE)
    cluster = make_live()
    cluster.reset(0)
    cluster.apply(Plan(replicas=np.array([3, 6, 3])))
    assert bed.replicas("cart") == left


def test_bounds_of_one_microservice_are_kept(bed: Bed, make_live: Make) -> None:
    cluster = make_live({"replicas": {"cart": {"min": 3, "max": 3}}})
    cluster.reset(0)
    cluster.apply(Plan(replicas=np.array([3, 5, 5])))
    assert [bed.replicas(name) for name in NAMES] == [3, 3, 5]


def test_two_controllers_never_act_at_once(bed: Bed, make_live: Make) -> None:
    first = make_live({"election": {"duration_s": 0.6, "deadline_s": 0.4, "retry_s": 0.02}})
    first.reset(0)
    deadline = time.monotonic() + 10.0
    with pytest.raises(LeadershipLost, match="somebody-else"):
        while time.monotonic() < deadline:
            # Again and again: the first one may be about to write what it read before.
            bed.kubernetes.get("leases", "imbres-gym.shop", NAMESPACE)["spec"]["holderIdentity"] = "somebody-else"
            bed.kubernetes.writes.clear()
            first.apply(Plan())
            time.sleep(0.02)
    first.close()
    assert [path for _, path in bed.kubernetes.writes if "leases" not in path] == []
    assert bed.kubernetes.get("leases", "imbres-gym.shop", NAMESPACE)["spec"]["holderIdentity"] == "somebody-else"


def test_a_leader_that_cannot_renew_holds_until_it_can(bed: Bed, make_live: Make) -> None:
    log = Log()
    election = {"duration_s": 30.0, "deadline_s": 0.3, "retry_s": 0.02}
    cluster = make_live({"election": election}, journal=log.journal)
    cluster.reset(0)
    bed.kubernetes.fail = lambda method, path: 503 if "leases" in path else None
    wait_until(lambda: any(reason.startswith("not-leader") for reason in cluster.reasons))
    bed.kubernetes.writes.clear()
    cluster.apply(Plan(proportions=HALF, replicas=MORE))
    assert log.decisions()[-1]["outcome"] == "held"
    assert bed.kubernetes.writes == []
    bed.kubernetes.fail = lambda method, path: None
    wait_until(lambda: cluster.reasons == ())
    cluster.apply(Plan(proportions=HALF, replicas=MORE))
    assert bed.replicas("cart") == 4


def test_a_slow_api_server_carries_no_write_over_the_end_of_the_lease(bed: Bed, make_live: Make) -> None:
    log = Log()
    cluster = make_live({"election": {"duration_s": 30.0, "deadline_s": 0.3, "retry_s": 0.02}}, journal=log.journal)
    cluster.reset(0)

    def stuck(method: str, path: str) -> int | None:
        if method == "POST" and "connectionplans" in path and not bed.plans():
            wait_until(lambda: not cluster._elector.leads)
        return 503 if "leases" in path else None

    bed.kubernetes.fail = stuck
    cluster.apply(Plan(proportions=HALF, replicas=MORE))
    assert len(bed.plans()) == 1  # the one that was on its way
    assert bed.replicas("cart") == 3
    assert any("lease could not be renewed" in error for error in log.decisions()[-1]["errors"])


def test_a_second_controller_waits_and_then_goes_on(bed: Bed, make_live: Make) -> None:
    log = Log()
    election = {"election": {"duration_s": 5.0, "deadline_s": 2.0, "retry_s": 0.02}}
    first, second = make_live(election), make_live(election, journal=log.journal)
    first.reset(0)
    waiting = threading.Thread(target=second.reset, args=(0,))
    waiting.start()
    wait_until(lambda: bool(log.events("standby")))
    first.apply(Plan(proportions=HALF, replicas=MORE))
    assert second._elector.holder == first._elector._identity
    assert not second._elector.leads
    first.close()
    waiting.join(timeout=10.0)
    assert second._elector.leads
    second.apply(Plan(replicas=MORE))
    assert bed.replicas("cart") == 4


def kill(cluster: LiveCluster) -> None:
    """As SIGKILL does: it renews its Lease no more, and gives nothing back."""
    cluster._elector._stop.set()
    assert cluster._elector._thread is not None
    cluster._elector._thread.join()


def test_a_restart_finds_what_was_left(bed: Bed, make_live: Make) -> None:
    first = make_live({"election": {"duration_s": 1.0, "deadline_s": 0.5, "retry_s": 0.1}})
    first.reset(0)
    first.apply(Plan(proportions=HALF, replicas=MORE))
    in_force = first.advance(5.0).proportions[1]
    kill(first)
    second = make_live({"election": {"duration_s": 1.0, "deadline_s": 0.5, "retry_s": 0.1}})
    telemetry = second.reset(0)
    # Rules are for what was there when they were written: the new container of node-a is not in them.
    assert telemetry.proportions[1, 0] == pytest.approx(0.5, abs=0.01)
    assert in_force[0] > 0.5
    assert len(bed.plans()) == 3
    second.close()
    assert bed.replicas("cart") == 3
    assert bed.plans() == {}


def test_what_cannot_be_done_is_left_out_and_said(bed: Bed, make_live: Make) -> None:
    log = Log()
    cluster = make_live(journal=log.journal)
    cluster.reset(0)
    cluster.apply(Plan(proportions=HALF, balancer=Balancer.PREQUAL, placement=np.ones((3, 3), np.int64)))
    assert log.decisions()[-1]["left_out"] == ["balancer prequal", "placement"]
    assert log.decisions()[-1]["outcome"] == "applied"


def test_links_of_an_agent_become_its_own_rules(bed: Bed, make_live: Make) -> None:
    cluster = make_live({"safety": {"max_weight_change": 1.0}})
    telemetry = cluster.reset(0)
    front = telemetry.container_id[telemetry.container_microservice == 0]
    cart = telemetry.container_id[telemetry.container_microservice == 1]
    links = Links(front, cart, np.ones(3))  # each calls its own
    cluster.apply(Plan(connections=ConnectionPlan({0: links})))
    for plan in bed.plans().values():
        (service,) = plan["spec"]["pods"][0]["services"]
        assert service["service"] == "cart"
        assert len(service["targets"]) == 1
    telemetry = cluster.advance(5.0)
    assert telemetry.connections.tolist() == [3, 9]
    assert telemetry.pair_share[0] == pytest.approx(np.eye(3) / 3)


BROKEN: dict[str, tuple[Callable[[Bed], Any], str]] = {
    "no Deployment": (
        lambda bed: bed.kubernetes.objects.pop(("deployments", NAMESPACE, "cart")),
        "cart: no Deployment",
    ),
    "no Service": (lambda bed: bed.kubernetes.objects.pop(("services", NAMESPACE, "cart")), "cart: its Service is not"),
    "headless": (
        lambda bed: bed.kubernetes.get("services", "cart", NAMESPACE)["spec"].update(clusterIP="None"),
        "headless",
    ),
    "no node": (lambda bed: [bed.kubernetes.objects.pop(("nodes", "", n)) for n in bed.node_cpu], "no node may run"),
    "RBAC too small": (lambda bed: setattr(bed.kubernetes, "fail", lambda method, path: 403), "live doctor"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_application_that_cannot_be_controlled_is_refused(bed: Bed, make_live: Make, what: str) -> None:
    destroy, said = BROKEN[what]
    destroy(bed)
    with pytest.raises(ConfigError, match=said):
        make_live()
    assert bed.kubernetes.writes == []
