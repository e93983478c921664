"""Which of the stored plans are for this node, valid, and still renewed by their controller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from imbres_gym.live.connection_plan import PlanSpec, PodRules
from imbres_gym.live.node.plans import StoredPlan
from imbres_gym.live.node.rules import Rules, rules_of

MOST_ERRORS = 3
"""Mistakes of a spec that a status names; the rest is counted."""


@dataclass(frozen=True)
class WantedPod:
    """What a plan asks for in one pod; `problem` says why that cannot be written, None if it can."""

    name: str
    uid: str
    rules: Rules
    problem: str | None = None


@dataclass(frozen=True)
class Demand:
    """What one plan asks of this node now.

    Attributes:
        pods: whose rules are to be in force.
        of_this_generation: whether they are those of the spec that is stored, and not of an older one.
        error: why they are not, or why there are none.
    """

    plan: StoredPlan
    pods: tuple[WantedPod, ...]
    of_this_generation: bool
    error: str | None


@dataclass
class _Entry:
    """What is remembered of a plan: the last valid spec, the newest generation and its error, the last renewal.

    Pods are made from a spec once, as renewals come far more often than new specs.
    """

    spec: PlanSpec | None
    pods: tuple[WantedPod, ...]
    generation: int
    error: str | None
    renewed: str | None
    renewed_at_s: float


class PlanBook:
    """Remembers the last valid spec and the last renewal of every plan of this node.

    Args:
        node: this node's name.
        clock: seconds that never go back. No time of another machine is read, so skewed clocks do no harm.
    """

    def __init__(self, node: str, clock: Callable[[], float]) -> None:
        self._node = node
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def demands(self, plans: list[StoredPlan]) -> list[Demand]:
        """What the plans of this node ask for, in the order of the plans; plans that are gone are forgotten."""
        mine = [plan for plan in plans if self._is_mine(plan)]
        self._entries = {plan.uid: self._updated(plan) for plan in mine}
        return [self._demand(plan, self._entries[plan.uid]) for plan in mine]

    def _is_mine(self, plan: StoredPlan) -> bool:
        node = plan.spec.get("node") if isinstance(plan.spec, dict) else None
        # A spec too broken to name its node belongs to the one in the object's name, so that someone reports it.
        return node == self._node if isinstance(node, str) else plan.name.endswith(f".{self._node}")

    def _updated(self, plan: StoredPlan) -> _Entry:
        entry = self._entries.get(plan.uid)
        if entry is None:
            entry = _Entry(None, (), -1, None, plan.renewed, self._clock())
        if entry.renewed != plan.renewed:
            entry.renewed, entry.renewed_at_s = plan.renewed, self._clock()
        if entry.generation != plan.generation:
            entry.generation, entry.error = plan.generation, None
            try:
                entry.spec = PlanSpec.model_validate(plan.spec)
                entry.pods = tuple(_wanted(pod) for pod in entry.spec.pods)
            except ValidationError as error:
                entry.error = _explain(error)
        return entry

    def _demand(self, plan: StoredPlan, entry: _Entry) -> Demand:
        if entry.spec is None:
            return Demand(plan, (), False, entry.error)
        silent_s = self._clock() - entry.renewed_at_s
        if silent_s > entry.spec.expires_after_s:
            error = f"expired: the controller has not renewed it for {entry.spec.expires_after_s:g} s"
            return Demand(plan, (), entry.error is None, error)
        if entry.error is not None:
            return Demand(plan, entry.pods, False, f"{entry.error}; the rules of the last valid spec stay")
        return Demand(plan, entry.pods, True, None)


def _wanted(pod: PodRules) -> WantedPod:
    try:
        return WantedPod(pod.name, pod.uid, rules_of(pod))
    except ValueError as error:
        return WantedPod(pod.name, pod.uid, (), str(error))


def _explain(error: ValidationError) -> str:
    lines = [f"{'.'.join(map(str, item['loc'])) or 'spec'}: {item['msg']}" for item in error.errors()]
    more = [f"and {len(lines) - MOST_ERRORS} more"] if len(lines) > MOST_ERRORS else []
    return "the spec is not valid: " + "; ".join(lines[:MOST_ERRORS] + more)
