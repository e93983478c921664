"""Node agents are killed again and again while plans change: every pod always has one plan's rules, whole."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import node_agents
import pytest
from connection_plans import PlanWriter, in_force
from live_cluster import Background, Bed, served_by_pod, wait_for

from imbres_gym.live.connection_plan import PodRules
from imbres_gym.live.node.rules import Rules, rules_of
from scripts.testbed import manifests

KILLS = 3
"""Of each agent. Kubernetes starts it again at once, then after 10 s, then after 20 s."""
AIM_S = 0.5
"""How long the right moment for a kill is waited for: a plan is in force 0.06 s after it was written."""


class Sampler:
    """Reads the rules of pods again and again, in a thread of its own.

    Attributes:
        seen: pod uid -> rules in the order in which they were found, None where they were not whole.
        samples: how often the rules of all pods were read.
    """

    def __init__(self, uids: list[str]) -> None:
        self.seen: dict[str, list[Rules | None]] = {uid: [] for uid in uids}
        self.samples = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            for uid, seen in self.seen.items():
                rules = node_agents.rules_in(uid)
                if not seen or seen[-1] != rules:
                    seen.append(rules)
            self.samples += 1

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def fresh_agents(bed: Bed) -> Iterator[None]:
    """New agents before and after: Kubernetes waits longer with each kill before it starts an agent again."""
    node_agents.replace(bed)
    yield
    node_agents.replace(bed)


def test_killed_agents_never_leave_half_a_plan_and_the_last_plan_comes_into_force(
    fresh_agents: None, deployed: Bed, writer: PlanWriter, tell: Callable[[str], None]
) -> None:
    stream = random.Random(5)
    addresses = sorted(served_by_pod(deployed, "pricing"))
    written: list[dict[str, PodRules]] = []

    def write() -> None:
        weights = [stream.uniform(0.1, 1.0) for _ in addresses]
        written.append(writer.write(dict(zip(addresses, weights, strict=True))))

    write()
    wait_for(lambda: in_force(deployed), "first plan in force", 20.0)
    # Agents of nodes without callers have no rules to write.
    left = dict.fromkeys((pod.spec.nodeName for pod in deployed.pods("frontend")), KILLS)
    hits: list[bool] = []
    background = Background(deployed, 6.0, 60.0, seed=11)
    sampler = Sampler(list(written[0]))
    try:
        end = time.monotonic() + 120.0
        while any(left.values()):
            assert time.monotonic() < end, f"agents do not come back: {left}"
            time.sleep(stream.uniform(0.0, 0.2))
            victims = {
                node: pod
                for node, pod in node_agents.agents(deployed).items()
                if left.get(node) and node_agents.ready(pod) and stream.random() < 0.3
            }
            with ThreadPoolExecutor(len(left)) as pool:
                killing = pool.map(lambda pod: node_agents.kill_in_an_update(pod, AIM_S), victims.values())
                write()
                hits += killing
            for node in victims:
                left[node] -= 1
        took_s = wait_for(
            lambda: manifests.agents_ready() and in_force(deployed) and node_agents.are_real(written[-1]),
            "last plan in force",
            90.0,
        )
    finally:
        sampler.end()
        requests = background.join()
    tell(f"{len(hits)} kills during {len(written)} plans, {sum(hits)} while rules were being read or written")
    tell(f"{sampler.samples} samples; the last plan is in force {took_s:.0f} s after it was written")
    assert sum(hits) >= len(hits) / 2
    for uid, seen in sampler.seen.items():
        order = [rules_of(of_pods[uid]) for of_pods in written]
        # Whole, of a plan that was written, and never of an older one than before.
        places = [order.index(rules) for rules in seen if rules is not None]
        assert len(places) == len(seen) and places == sorted(places), (uid, places, len(seen))
        assert len(places) > KILLS
        assert seen[-1] == order[-1]
    assert len(requests) > 200 and all(request.ok for request in requests)
