"""What the node agent does with plans: on pods and an API server in memory, and a clock that the test turns."""

from __future__ import annotations

import pytest
from node_fakes import FakeApi, FakePlans, FakePods, spec, stored

from imbres_gym.live.node.agent import Agent
from imbres_gym.live.node.api import ApiUnavailable, Pod
from imbres_gym.live.node.enforcer import Enforcer
from imbres_gym.live.node.metrics import Metrics
from imbres_gym.live.node.nftables import parse_json
from imbres_gym.live.node.plans import StoredPlan
from imbres_gym.live.node.rules import NOTHING, Found

WEIGHTS = [750_000, 250_000]
CHECK_S = 5.0


class Node:
    """One agent with everything around it."""

    def __init__(self, *uids: str) -> None:
        self.now_s = 1000.0
        self.pods = FakePods.running(*uids)
        self.api = FakeApi(*uids)
        self.plans = FakePlans()
        self.metrics = Metrics()
        self.start()

    def start(self) -> None:
        """A new agent, as after a restart."""
        enforcer = Enforcer(self.pods, self.pods, self.metrics)  # type: ignore[arg-type]
        self.agent = Agent(
            "node-1",
            self.plans,
            self.api,
            enforcer,
            None,
            self.metrics,
            check_interval_s=CHECK_S,
            clock=lambda: self.now_s,
        )

    def later(self, seconds: float) -> None:
        self.now_s += seconds
        self.agent.step()

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"imbres_node_agent_{name}", labels) or 0.0


@pytest.fixture
def node() -> Node:
    return Node("a", "b")


def test_rules_of_a_plan_are_written_and_reported(node: Node) -> None:
    node.plans.set(stored(content=spec("a", "b")))
    node.agent.step()
    assert node.pods.in_force() == {"a": WEIGHTS, "b": WEIGHTS}
    status = node.api.last()
    assert (status.observed_generation, status.applied_pods, status.error) == (1, 2, None)
    assert status.applied_at is not None
    assert node.count("pods") == 2


def test_nothing_is_written_or_reported_twice(node: Node) -> None:
    node.plans.set(stored(content=spec("a", "b")))
    for _ in range(20):
        node.later(1.0)
        node.plans.set(stored(content=spec("a", "b"), renewed=str(node.now_s)))
    assert len(node.pods.written) == 2
    assert len(node.api.reports) == 1


def test_a_status_is_a_sign_of_life_once_a_minute(node: Node) -> None:
    node.plans.set(stored(content=spec("a", expires_s=1e6)))
    for _ in range(121):
        node.later(1.0)
    assert len(node.api.reports) == 3
    assert len(node.pods.written) == 1


def test_only_pods_whose_rules_changed_are_written(node: Node) -> None:
    node.plans.set(stored(content=spec("a", "b")))
    node.agent.step()
    changed = spec("a", "b")
    changed["pods"][1]["services"] = spec("b", weights=(1, 1))["pods"][0]["services"]
    node.plans.set(stored(content=changed, generation=2))
    node.later(0.1)
    assert [uid for uid, _ in node.pods.written] == ["a", "b", "b"]
    assert node.pods.in_force() == {"a": WEIGHTS, "b": [500_000, 500_000]}
    assert node.api.last().observed_generation == 2


def test_plans_of_other_nodes_are_none_of_its_business(node: Node) -> None:
    node.plans.set(stored("shop.node-2", content=spec("a", node="node-2")), stored("x.node-11", content=7))
    node.agent.step()
    assert node.pods.written == node.api.reports == []


def test_a_pod_that_a_plan_no_longer_names_gets_rid_of_its_rules(node: Node) -> None:
    node.plans.set(stored(content=spec("a", "b")))
    node.agent.step()
    node.plans.set(stored(content=spec("b"), generation=2))
    node.later(0.1)
    assert node.pods.in_force() == {"b": WEIGHTS}
    assert node.pods.rules["a"] == NOTHING


def test_a_plan_that_is_gone_leaves_nothing(node: Node) -> None:
    node.plans.set(stored(content=spec("a", "b")))
    node.agent.step()
    node.plans.set()
    node.later(0.1)
    assert node.pods.rules == {"a": NOTHING, "b": NOTHING}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"node": "node-1"}, "expiresAfterSeconds: Field required"),
        ("nonsense", "Input should be a valid dictionary"),
        (spec("a", "a"), "pods: Value error, a pod is named twice"),
        (spec("a", weights=(1, 0)), "weight: Input should be greater than 0"),
        ({**spec("a"), "extra": 1}, "extra: Extra inputs are not permitted"),
    ],
)
def test_a_malformed_spec_is_reported_and_the_old_rules_stay(node: Node, broken: object, message: str) -> None:
    node.plans.set(stored())
    node.agent.step()
    node.plans.set(stored(content=broken, generation=2))
    node.later(CHECK_S)
    assert node.pods.in_force() == {"a": WEIGHTS}
    status = node.api.last()
    assert (status.observed_generation, status.applied_pods, status.applied_at) == (2, 0, None)
    assert message in (status.error or "")
    assert "the rules of the last valid spec stay" in (status.error or "")
    node.plans.set(stored(generation=3))
    node.later(CHECK_S)
    assert (node.api.last().observed_generation, node.api.last().error) == (3, None)


def test_a_spec_that_was_never_valid_writes_nothing(node: Node) -> None:
    node.plans.set(stored(content={"pods": []}))
    node.agent.step()
    assert node.pods.written == []
    assert "node: Field required" in (node.api.last().error or "")


def test_rules_expire_without_renewal_and_come_back_with_it(node: Node) -> None:
    node.plans.set(stored(content=spec("a", expires_s=30.0)))
    node.later(30.0)
    node.later(30.0)
    assert node.pods.in_force() == {"a": WEIGHTS}
    node.later(0.1)
    assert node.pods.rules["a"] == NOTHING
    assert "has not renewed it for 30 s" in (node.api.last().error or "")
    node.plans.set(stored(content=spec("a", expires_s=30.0), renewed="1970-01-01"))  # the value is no time to compare
    node.later(0.1)
    assert node.pods.in_force() == {"a": WEIGHTS}
    assert node.api.last().error is None


def test_the_kill_switch_takes_rules_out_and_lets_them_back(node: Node) -> None:
    node.plans.set(stored())
    node.agent.step()
    node.api.off.add("shop")
    node.later(CHECK_S)
    assert node.pods.rules["a"] == NOTHING
    assert "kill switch" in (node.api.last().error or "")
    node.api.off.clear()
    node.later(CHECK_S)
    assert node.pods.in_force() == {"a": WEIGHTS}


def test_an_api_server_that_is_down_changes_nothing_before_the_plans_expire(node: Node) -> None:
    node.plans.set(stored(content=spec("a", expires_s=30.0)))
    node.agent.step()
    node.api.down = True
    for _ in range(29):
        node.later(1.0)
    assert node.pods.in_force() == {"a": WEIGHTS}
    assert len(node.pods.written) == 1
    assert node.count("api_failures_total") > 0
    for _ in range(2):
        node.later(1.0)
    assert node.pods.rules["a"] == NOTHING


def test_failed_reports_are_tried_again_now_and_then_but_not_all_the_time(node: Node) -> None:
    node.agent.step()
    node.api.down = True
    node.plans.set(stored(content=spec("a", expires_s=1e6)))
    node.api.requests.clear()
    for _ in range(50):
        node.later(0.1)
    assert node.api.requests.count("status") <= 2
    node.api.down = False
    node.later(CHECK_S)
    node.later(CHECK_S)
    assert node.api.last().error is None


def test_as_long_as_the_kill_switch_was_never_readable_nothing_is_touched(node: Node) -> None:
    node.plans.set(stored())
    node.agent.step()
    node.start()
    node.api.down = True
    for _ in range(3):
        node.later(CHECK_S)
    assert node.pods.in_force() == {"a": WEIGHTS}
    assert len(node.pods.written) == 1


def test_a_silent_api_server_does_not_stop_the_loop(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [StoredPlan(f"ns-{k}", f"x{k}.node-1", f"u{k}", 1, "1", spec()) for k in range(40)]

    def no_answer(namespace: str) -> bool:
        node.now_s += 10.0
        raise ApiUnavailable(f"{namespace}: timeout")

    monkeypatch.setattr(node.api, "stopped", no_answer)
    node.plans.set(*plans)
    started_s = node.now_s
    node.agent.step()
    assert node.now_s - started_s <= 30.0
    assert node.agent.healthy()


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        (None, "no pod of this uid is on this node"),
        (Pod("bank", "pod-a"), "the uid is that of another pod"),
        (Pod("shop", "pod-z"), "the uid is that of another pod"),
        (Pod("shop", "pod-a", "it is not to be touched"), "it is not to be touched"),
    ],
)
def test_only_pods_of_the_plans_namespace_on_this_node_are_ruled(node: Node, pod: Pod | None, message: str) -> None:
    del node.api.known["a"]
    if pod:
        node.api.known["a"] = pod
    node.plans.set(stored(content=spec("a", "b")))
    node.agent.step()
    assert node.pods.in_force() == {"b": WEIGHTS}
    assert node.api.last().applied_pods == 1
    assert message in (node.api.last().error or "")


def test_a_pod_with_addresses_that_cannot_be_planned_is_named(node: Node) -> None:
    content = spec("a", "b")
    service = dict(content["pods"][0]["services"][0], clusterIp="fd00::7")
    content["pods"][0]["services"] = [service]
    node.plans.set(stored(content=content))
    node.agent.step()
    assert node.pods.in_force() == {"b": WEIGHTS}
    assert node.api.last().error == "pod pod-a: fd00::7 is not an IPv4 address; only those can be planned"


def test_a_pod_that_came_later_is_looked_up_but_not_all_the_time(node: Node) -> None:
    node.plans.set(stored(content=spec("a", "c")))
    for _ in range(20):
        node.later(0.1)
    assert node.api.requests.count("pods") <= 2
    node.api.known["c"] = Pod("shop", "pod-c")
    node.pods.rules["c"] = NOTHING
    node.later(CHECK_S)
    assert node.pods.in_force() == {"a": WEIGHTS, "c": WEIGHTS}


def test_a_pod_has_one_plan(node: Node) -> None:
    node.plans.set(stored("bar.node-1"), stored("shop.node-1", content=spec("a", "b", weights=(1, 1))))
    node.agent.step()
    assert node.pods.in_force() == {"a": WEIGHTS, "b": [500_000, 500_000]}
    assert "pod pod-a: plan bar.node-1 rules it already" in (node.api.last("shop.node-1").error or "")


def test_an_evicted_pod_does_not_stop_the_others(node: Node) -> None:
    node.plans.set(stored(content=spec("a", "b")))
    node.agent.step()
    del node.pods.rules["a"]
    node.plans.set(stored(content=spec("a", "b", weights=(1, 1)), generation=2))
    node.later(0.1)
    assert node.pods.in_force() == {"b": [500_000, 500_000]}
    assert (node.api.last().applied_pods, node.api.last().error) == (1, "pod pod-a: no process of it runs on this node")


@pytest.mark.parametrize("foreign", [NOTHING, Found(None, 1, True), Found((), 3, True)])
def test_drift_is_repaired_at_the_next_look(node: Node, foreign: Found) -> None:
    node.plans.set(stored())
    node.agent.step()
    node.pods.rules["a"] = foreign
    node.later(CHECK_S)
    assert node.pods.in_force() == {"a": WEIGHTS}
    assert node.count("updates_total", result="repaired") == 1


def test_a_write_that_fails_is_reported_tried_again_and_heals(node: Node) -> None:
    node.plans.set(stored())
    node.pods.broken.add("a")
    for _ in range(30):
        node.later(0.1)
    assert node.api.last().error == "pod pod-a: restore ended with 4: no room"
    assert node.count("updates_total", result="failed") == 1
    node.pods.broken.clear()
    node.later(CHECK_S)
    assert node.pods.in_force() == {"a": WEIGHTS}
    assert node.api.last().error is None


def test_rules_that_cannot_be_read_are_reported_tried_again_and_heal(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.plans.set(stored())
    with monkeypatch.context() as patch:
        patch.setattr(node.pods, "read", lambda namespace: parse_json(""))
        node.agent.step()
    assert (node.api.last().error or "").startswith("pod pod-a: nft: its listing cannot be read")
    node.later(CHECK_S)
    assert node.pods.in_force() == {"a": WEIGHTS}
    assert node.api.last().error is None


def test_a_restart_finds_what_is_there_and_clears_what_no_plan_names(node: Node) -> None:
    node.plans.set(stored(content=spec("a", "b")))
    node.agent.step()
    node.pods.written.clear()
    node.plans.set(stored(content=spec("a"), generation=2))
    node.start()
    node.agent.step()
    assert node.pods.in_force() == {"a": WEIGHTS}
    assert node.pods.written == [("b", ())]


def test_before_the_plans_are_known_nothing_is_touched(node: Node) -> None:
    node.plans.set(stored())
    node.agent.step()
    node.plans.content = None
    node.start()
    node.later(CHECK_S)
    assert node.pods.in_force() == {"a": WEIGHTS}


def test_leaving_takes_everything_out_and_says_so(node: Node) -> None:
    node.plans.set(stored(content=spec("a", "b")))
    node.agent.step()
    node.agent.stop()
    node.agent.run()
    assert node.pods.rules == {"a": NOTHING, "b": NOTHING}
    status = node.api.last()
    assert (status.applied_pods, status.error) == (0, "the node agent has ended and taken its rules out")


def test_a_loop_that_breaks_takes_everything_out(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.plans.set(stored())
    node.agent.step()
    monkeypatch.setattr(node.plans, "plans", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        node.agent.run()
    assert node.pods.rules["a"] == NOTHING


def test_a_loop_that_stands_still_is_not_healthy(node: Node) -> None:
    node.agent.step()
    assert node.agent.healthy()
    node.now_s += 200.0
    assert not node.agent.healthy()
