"""What a live cluster promises: telemetry like the simulator's, plans in force, and nothing done that is not safe."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import numpy as np
import pytest
from fake_clock import Clock
from live_bed import NAMES, NAMESPACE, NODES, Bed

from imbres_gym.live.cluster import LiveCluster
from imbres_gym.live.journal import Journal
from imbres_gym.live.observer import ORIGINAL_REPLICAS
from imbres_gym.plan import Plan

Make = Callable[..., LiveCluster]


def decisions(lines: StringIO) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in lines.getvalue().splitlines()]
    return [event for event in events if event["event"] == "decision"]


def shifted(cluster: LiveCluster, share: float) -> Plan:
    """A plan that gives the first node this share of the load of every microservice, and the others the rest."""
    m, h = len(cluster.info.microservices), len(cluster.info.hosts)
    proportions = np.full((m, h), (1.0 - share) / (h - 1))
    proportions[:, 0] = share
    return Plan(proportions=proportions)


def test_telemetry_says_what_the_sources_say(bed: Bed, make_live: Make) -> None:
    bed.node_cpu["node-b"] = 0.7
    bed.own_s["node-b"] = 0.016
    telemetry = make_live().reset(0)
    assert telemetry.time_s == telemetry.interval_s == 5.0
    assert telemetry.ready.tolist() == [[1, 1, 1]] * 3
    assert telemetry.interference[:, 0].tolist() == [0.2, 0.7, 0.2]
    assert telemetry.load_rps == pytest.approx(10.0)
    assert telemetry.own_latency_ms == pytest.approx(np.array([[8.0, 16.0, 8.0]] * 3))
    assert np.all(telemetry.own_p95_ms > telemetry.own_latency_ms)
    assert telemetry.samples.tolist() == [[50, 50, 50]] * 3
    assert telemetry.age_s.tolist() == [[2.0, 2.0, 2.0]] * 3
    assert telemetry.requests.tolist() == [150]
    assert telemetry.e2e_ms[0, 0] == pytest.approx(30.0)
    assert np.percentile(telemetry.latencies_ms[0], 95) == pytest.approx(telemetry.e2e_ms[0, 2], rel=0.02)
    assert telemetry.cpu_utilisation == pytest.approx(0.2)
    assert telemetry.proportions == pytest.approx(1.0 / 3.0)
    assert telemetry.connections.tolist() == [9, 9]


def test_nothing_is_written_before_the_first_decision_but_the_lease(bed: Bed, make_live: Make) -> None:
    make_live().reset(0)
    assert {path.split("/")[-2] for _, path in bed.kubernetes.writes} <= {"leases", NAMESPACE}
    assert all("leases" in path for _, path in bed.kubernetes.writes)


def test_a_plan_becomes_rules_of_every_upstream_pod(bed: Bed, make_live: Make) -> None:
    cluster = make_live()
    cluster.reset(0)
    cluster.apply(shifted(cluster, 0.5))
    plans = bed.plans()
    assert set(plans) == {f"shop.{node}" for node in NODES}
    for node in NODES:
        spec = plans[f"shop.{node}"]["spec"]
        (front,) = [pod for pod in bed.pods("front") if pod["spec"]["nodeName"] == node]
        (rules,) = spec["pods"]
        assert (spec["node"], rules["name"], rules["uid"]) == (
            node,
            front["metadata"]["name"],
            front["metadata"]["uid"],
        )
        assert [service["service"] for service in rules["services"]] == ["cart", "stock"]
        weights = {target["ip"]: target["weight"] for target in rules["services"][0]["targets"]}
        expected = {
            pod["status"]["podIP"]: 0.5 if pod["spec"]["nodeName"] == "node-a" else 0.25 for pod in bed.pods("cart")
        }
        assert weights == pytest.approx(expected)
    telemetry = cluster.advance(5.0)
    assert telemetry.proportions[1].tolist() == pytest.approx([0.5, 0.25, 0.25])
    # Nobody plans the callers of the entry: Kubernetes balances them.
    assert telemetry.proportions[0].tolist() == pytest.approx([1 / 3] * 3)


def test_one_step_moves_no_more_load_than_it_may(bed: Bed, make_live: Make) -> None:
    cluster = make_live({"safety": {"max_weight_change": 0.1}})
    cluster.reset(0)
    seen = []
    for _ in range(8):
        cluster.apply(shifted(cluster, 0.9))
        seen.append(float(cluster.advance(5.0).proportions[1, 0]))
    steps = np.diff([1 / 3, *seen])
    assert np.all(steps <= 0.1 + 1e-6)
    assert seen[-1] == pytest.approx(0.9)


def test_balanced_load_needs_no_rules(bed: Bed, make_live: Make) -> None:
    cluster = make_live()
    cluster.reset(0)
    cluster.apply(shifted(cluster, 0.5))
    cluster.advance(5.0)
    cluster.apply(shifted(cluster, 1.0 / 3.0))
    assert bed.plans() == {}


def test_replicas_are_scaled_and_the_count_that_was_found_is_kept(bed: Bed, make_live: Make) -> None:
    cluster = make_live()
    cluster.reset(0)
    cluster.apply(Plan(replicas=np.array([3, 5, 3])))
    assert [bed.replicas(name) for name in NAMES] == [3, 5, 3]
    assert bed.kubernetes.get("deployments", "cart", NAMESPACE)["metadata"]["annotations"] == {ORIGINAL_REPLICAS: "3"}
    telemetry = cluster.advance(5.0)
    assert telemetry.wanted.tolist() == [3, 5, 3]
    assert telemetry.ready.sum(axis=1).tolist() == [3, 5, 3]
    cluster.close()
    assert [bed.replicas(name) for name in NAMES] == [3, 3, 3]
    assert bed.kubernetes.get("deployments", "cart", NAMESPACE)["metadata"]["annotations"] == {}


def test_what_was_decided_last_may_be_kept(bed: Bed, make_live: Make) -> None:
    cluster = make_live({"on_exit": "keep"})
    cluster.reset(0)
    cluster.apply(Plan(proportions=shifted(cluster, 0.5).proportions, replicas=np.array([3, 4, 3])))
    assert len(bed.plans()) == 3
    cluster.close()
    assert bed.replicas("cart") == 4
    assert bed.plans() == {}


def test_a_dry_run_writes_nothing_and_says_what_it_would_do(bed: Bed, make_live: Make) -> None:
    lines = StringIO()
    cluster = make_live(dry_run=True, journal=Journal([lines]))
    cluster.reset(0)
    cluster.apply(Plan(proportions=shifted(cluster, 0.5).proportions, replicas=np.array([3, 5, 3])))
    telemetry = cluster.advance(5.0)
    cluster.close()
    assert bed.kubernetes.writes == []
    assert telemetry.proportions == pytest.approx(1.0 / 3.0)
    (decision,) = [
        event for line in lines.getvalue().splitlines() if (event := json.loads(line))["event"] == "decision"
    ]
    assert decision["outcome"] == "dry-run"
    assert decision["replicas"] == [{"microservice": "cart", "current": 3, "wanted": 5, "given": 5}]
    assert decision["proportions"]["cart"] == {"node-a": 0.5, "node-b": 0.25, "node-c": 0.25}
    assert decision["plans"]["written"] == 3


@pytest.mark.parametrize("method", ["snapshot", "restore"])
def test_a_live_cluster_has_no_past(make_live: Make, method: str) -> None:
    cluster = make_live()
    with pytest.raises(NotImplementedError):
        cluster.snapshot() if method == "snapshot" else cluster.restore(None)


def test_an_episode_begins_with_a_reset(make_live: Make) -> None:
    cluster = make_live()
    with pytest.raises(RuntimeError, match="call reset first"):
        cluster.apply(Plan())
    with pytest.raises(RuntimeError, match="call reset first"):
        cluster.advance(5.0)


def test_time_goes_forward_only(make_live: Make) -> None:
    cluster = make_live()
    cluster.reset(0)
    with pytest.raises(ValueError, match="cannot advance"):
        cluster.advance(0.0)


def test_a_late_interval_is_followed_by_a_whole_one(make_live: Make, clock: Clock) -> None:
    cluster = make_live()
    cluster.reset(0)
    clock.sleep(7.0)  # the decision took longer than an interval
    cluster.advance(5.0)
    before_s = clock()
    assert cluster.advance(5.0).time_s == 15.0
    assert clock() - before_s == pytest.approx(5.0)


def test_containers_that_are_not_ready_are_pending(bed: Bed, make_live: Make) -> None:
    cluster = make_live()
    cluster.reset(0)
    bed.kubernetes.pods_become_ready = False
    cluster.apply(Plan(replicas=np.array([3, 4, 3])))
    telemetry = cluster.advance(5.0)
    assert telemetry.pending.sum(axis=1).tolist() == [0, 1, 0]
    assert telemetry.container_id.tolist() == list(range(10))
    assert telemetry.container_ready.tolist() == [True] * 9 + [False]
    assert telemetry.container_age_s.tolist() == [10.0] * 9 + [0.0]


def test_evicted_and_dying_pods_do_not_count(bed: Bed, make_live: Make) -> None:
    first, second, _ = bed.pods("cart")
    first["status"]["phase"] = "Failed"
    second["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    telemetry = make_live().reset(0)
    assert telemetry.ready.sum(axis=1).tolist() == [3, 1, 3]


def test_a_container_on_a_node_that_joined_later_is_left_alone(bed: Bed, make_live: Make) -> None:
    cluster = make_live()
    cluster.reset(0)
    bed.pods("cart")[0]["spec"]["nodeName"] = "node-z"
    telemetry = cluster.advance(5.0)
    assert telemetry.ready.sum(axis=1).tolist() == [3, 2, 3]
    cluster.apply(shifted(cluster, 0.5))
    targets = {
        target["ip"]
        for plan in bed.plans().values()
        for pod in plan["spec"]["pods"]
        for service in pod["services"]
        for target in service["targets"]
    }
    assert bed.pods("cart")[0]["status"]["podIP"] not in targets


def test_nodes_with_a_taint_are_no_hosts_but_a_cordoned_one_is(bed: Bed, make_live: Make) -> None:
    node = bed.kubernetes.get("nodes", "node-c")
    node["spec"]["taints"] = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    assert make_live(dry_run=True).info.hosts == NODES
    node["spec"]["taints"] = [{"key": "dedicated", "effect": "NoSchedule"}]
    assert make_live(dry_run=True).info.hosts == NODES[:2]


def test_what_is_fixed_comes_from_the_cluster(bed: Bed, make_live: Make) -> None:
    info = make_live(dry_run=True).info
    assert (info.microservices, info.hosts, info.pairs, info.entries) == (NAMES, NODES, ((0, 1), (0, 2)), (0,))
    assert info.cores.tolist() == [0.5, 0.5, 0.5]
    assert info.memory_mb.tolist() == [100.0, 100.0, 100.0]
    assert (info.host_cores, info.initial_replicas.tolist()) == (4.0, [3, 3, 3])
