"""The node agent's loop: plans that are wanted, rules that are there, the difference applied, the outcome reported."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from imbres_gym.live.connection_plan import PlanStatus
from imbres_gym.live.node.api import ApiUnavailable, NodeApi
from imbres_gym.live.node.book import Demand, PlanBook, WantedPod
from imbres_gym.live.node.drain import Drain
from imbres_gym.live.node.enforcer import Enforcer, NotInForce
from imbres_gym.live.node.metrics import Metrics
from imbres_gym.live.node.plans import Key, StoredPlan
from imbres_gym.live.node.pods import PodDirectory
from imbres_gym.live.node.reports import Reports
from imbres_gym.live.node.rules import Rules

TICK_S = 1.0
"""Longest time between two steps: how late an expiry is seen [s]."""
KILL_SWITCHES_S = 20.0
"""Longest time for reading kill switches in one step, so that an API server that is silent does not stop it [s]."""
STALL_S = 120.0
"""A step that takes longer hangs: it waits for at most a few answers of 10 s (estimate) [s]."""

log = logging.getLogger(__name__)


class Plans(Protocol):
    """Where the plans come from."""

    @property
    def changed(self) -> threading.Event:
        """Set when there is something new."""
        ...

    def plans(self) -> list[StoredPlan] | None:
        """All plans, of other nodes too; None as long as they are not known."""
        ...

    def revive(self) -> None:
        """Called now and then: see whether news still arrive."""
        ...


@dataclass
class _Step:
    """What one step finds out: rules by pod uid, and by plan what is in its way and which pods it rules."""

    rules: dict[str, Rules] = field(default_factory=dict)
    owner: dict[str, tuple[Key, str]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    problems: dict[Key, list[str]] = field(default_factory=dict)
    in_force: dict[Key, int] = field(default_factory=dict)
    written: set[Key] = field(default_factory=set)


class Agent:
    """Keeps the rules of one node's pods as the plans want them.

    Args:
        node: this node's name.
        plans: where plans come from.
        api: other requests to the API server.
        enforcer: writes rules.
        drain: closes established connections of changed rules; None leaves them.
        metrics: counts what is done.
        check_interval_s: how often rules are read back and repaired, and the kill switch is read [s].
        clock: seconds that never go back.
    """

    def __init__(
        self,
        node: str,
        plans: Plans,
        api: NodeApi,
        enforcer: Enforcer,
        drain: Drain | None,
        metrics: Metrics,
        *,
        check_interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plans = plans
        self._api = api
        self._enforcer = enforcer
        self._drain = drain
        self._metrics = metrics
        self._check_interval_s = check_interval_s
        self._clock = clock
        self._book = PlanBook(node, clock)
        self._pods = PodDirectory(api, metrics, clock)
        self._reports = Reports(api, metrics, clock)
        self._stop = False
        self._stopped: dict[str, bool | None] = {}
        self._next_check_s = clock()
        self._unswept: set[str] | None = None
        self._last_step_s = clock()

    def run(self) -> None:
        """Step whenever plans change, and every second, until `stop`; whatever ends it, take everything out."""
        try:
            while not self._stop:
                self._plans.changed.clear()
                self.step()
                self._plans.revive()
                self._plans.changed.wait(TICK_S)
        finally:
            self.leave()

    def stop(self) -> None:
        """End `run` within a second after the present step.

        A signal's handler may call it, so that no lock is taken here: the interrupted code may hold it.
        """
        self._stop = True

    def healthy(self) -> bool:
        """Whether the loop goes round."""
        return self._clock() - self._last_step_s < STALL_S

    def step(self) -> None:
        """Do once what there is to do."""
        self._last_step_s = self._clock()
        plans = self._plans.plans()
        if plans is None:
            return  # what is in force stays until it is known what should be
        check = self._clock() >= self._next_check_s
        if check:
            self._next_check_s = self._clock() + self._check_interval_s
        demands = self._book.demands(plans)
        self._read_kill_switches({demand.plan.namespace for demand in demands}, check)
        step = _Step()
        for demand in demands:
            self._collect(demand, step)
        self._sweep(step, check)
        self._enforce(step, check)
        for demand in demands:
            self._report(demand, step)
        self._reports.send(check)
        if self._drain:
            self._drain.step()
        self._metrics.plans.set(len(demands))
        self._metrics.problems.set(sum(bool(step.problems[demand.plan.key]) for demand in demands))
        self._metrics.pods.set(sum(step.in_force.values()))

    def _report(self, demand: Demand, step: _Step) -> None:
        key = demand.plan.key
        error = "; ".join(step.problems[key]) or None
        pods = step.in_force.get(key, 0) if demand.of_this_generation else 0
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        status = PlanStatus(
            observed_generation=demand.plan.generation,
            applied_at=now if pods or error is None else None,
            applied_pods=pods,
            error=error,
        )
        self._reports.set(key, status, written=key in step.written)

    def leave(self) -> None:
        """Take all rules out, and say so in the status of the plans."""
        for uid in self._enforcer.pods():
            try:
                self._enforcer.enforce(uid, (), look=True)
            except NotInForce as error:
                log.error("pod %s: its rules stay: %s", uid, error)
        self._reports.close("the node agent has ended and taken its rules out")

    def _read_kill_switches(self, namespaces: set[str], check: bool) -> None:
        """Of namespaces with plans; one that cannot be read keeps its last value, None if it never could."""
        known = {namespace: self._stopped.get(namespace) for namespace in namespaces}
        started_s = self._clock()
        for namespace in sorted(namespaces):
            in_time = self._clock() - started_s < KILL_SWITCHES_S
            if in_time and (check or namespace not in self._stopped):
                try:
                    known[namespace] = self._api.stopped(namespace)
                except ApiUnavailable as error:
                    self._metrics.api_failures.inc()
                    log.warning("%s", error)
        self._stopped = known

    def _collect(self, demand: Demand, step: _Step) -> None:
        """Take over one plan's rules, but not those of pods that are not its to rule."""
        key = demand.plan.key
        problems = step.problems.setdefault(key, [])
        if demand.error:
            problems.append(demand.error)
        stopped = self._stopped[demand.plan.namespace]
        if stopped:
            problems.append("the kill switch of the namespace is on")
            return
        if stopped is None:
            # Neither written nor taken out: nobody knows what is wanted.
            step.held.update(pod.uid for pod in demand.pods)
            problems.append("held: the kill switch of the namespace cannot be read; see the agent's log")
            return
        for pod in demand.pods:
            problem = self._claim(key, pod, step)
            if problem:
                problems.append(f"pod {pod.name}: {problem}")

    def _claim(self, key: Key, pod: WantedPod, step: _Step) -> str | None:
        """Take over the rules of one pod; why not, if not."""
        known = self._pods.find(pod.uid)
        if known is None:
            return self._pods.failure or "no pod of this uid is on this node"
        if (known.namespace, known.name) != (key[0], pod.name):
            return "the uid is that of another pod"
        if known.hands_off:
            return known.hands_off
        if pod.uid in step.rules:
            return f"plan {step.owner[pod.uid][0][1]} rules it already"
        if pod.problem:
            return pod.problem
        step.rules[pod.uid] = pod.rules
        step.owner[pod.uid] = (key, pod.name)
        return None

    def _sweep(self, step: _Step, check: bool) -> None:
        """Once after the start: what an agent that was killed has left in pods that no plan names is taken out."""
        if self._unswept is None:
            self._unswept = self._pods.uids()
        if not self._unswept or not check:
            return
        for uid in sorted(self._unswept - step.held):
            if uid not in step.rules:
                try:
                    self._enforcer.enforce(uid, (), look=True)
                except NotInForce as error:
                    log.warning("pod %s: cannot see whether rules were left there: %s", uid, error)
                    continue
            self._unswept.discard(uid)

    def _enforce(self, step: _Step, check: bool) -> None:
        for uid in sorted(set(self._enforcer.pods()) - set(step.rules) - step.held):
            try:
                self._enforcer.enforce(uid, (), look=check)
            except NotInForce as error:
                log.error("pod %s: its rules cannot be taken out: %s", uid, error)
        for uid, rules in step.rules.items():
            key, name = step.owner[uid]
            try:
                replaced = self._enforcer.enforce(uid, rules, look=check)
            except NotInForce as error:
                step.problems[key].append(f"pod {name}: {error}")
                continue
            step.in_force[key] = step.in_force.get(key, 0) + 1
            if replaced is not None:
                step.written.add(key)
                if self._drain:
                    self._drain.begin(uid, replaced.rules or (), rules)
