"""Many requests of a service as one call tree: how often each call is made, and which calls run in parallel."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from imbres_gym.alibaba.traces import Callee, CallRecord

LEAST_VISITS = 0.01
"""Calls that are made less often than this per request are left out: estimate, keeps trees readable."""


@dataclass
class Node:
    """A call of the merged tree."""

    visits: int = 0
    """How often it was reached, in all requests together."""
    time_ms: float = 0.0
    """Sum of the response times of the calls, as seen by their callers, each group of repeated calls once."""
    groups: int = 0
    """Groups of repeated calls."""
    callers: int = 0
    """Calls of the parent that made it at least once."""
    offset_ms: float = 0.0
    """Sum over the groups of the time since the parent's first call."""
    children: dict[Callee, Node] = field(default_factory=dict)
    together: Counter[tuple[Callee, Callee]] = field(default_factory=Counter)
    """How often one call made both of two children, in sorted order."""
    overlapping: Counter[tuple[Callee, Callee]] = field(default_factory=Counter)
    """How often they overlapped in time."""


def merge(traces: Iterable[CallRecord]) -> Node:
    """Put the trees of requests with the same entry together."""
    root = Node()
    for trace in traces:
        _add(root, [trace])
    return root


def _add(node: Node, group: list[CallRecord]) -> None:
    """Count the calls of one caller to one callee, and what they call."""
    node.visits += sum(call.times for call in group)
    node.groups += 1
    node.time_ms += max(call.end_ms for call in group) - min(call.start_ms for call in group)
    for call in group:
        _add_children(node, call)


def _add_children(node: Node, call: CallRecord) -> None:
    groups: dict[Callee, list[CallRecord]] = {}
    for child in call.children:
        groups.setdefault(child.callee, []).append(child)
    if not groups:
        return
    first = min(child.start_ms for child in call.children)
    spans = {
        callee: (min(c.start_ms for c in children), max(c.end_ms for c in children))
        for callee, children in groups.items()
    }
    for callee, children in groups.items():
        below = node.children.setdefault(callee, Node())
        below.callers += 1
        below.offset_ms += spans[callee][0] - first
        _add(below, children)
    ordered = sorted(spans)
    for index, one in enumerate(ordered):
        for other in ordered[index + 1 :]:
            node.together[one, other] += 1
            begins, ends = max(spans[one][0], spans[other][0]), min(spans[one][1], spans[other][1])
            node.overlapping[one, other] += begins < ends


def repeat_and_probability(calls: float, presence: float) -> tuple[int, float]:
    """How an application writes down a call: a number of repetitions, and the chance of all of them.

    Args:
        calls: mean number of calls per visit of the caller, > 0.
        presence: share of the visits with at least one, > 0.

    Returns:
        Their product is `calls`; the chance is as near to `presence` as whole repetitions allow.
    """
    repeat = max(1, round(calls / presence), math.ceil(calls - 1e-9))
    return repeat, min(1.0, calls / repeat)


def stages_of(node: Node) -> list[list[Callee]]:
    """Children in the order in which they are called; those that mostly overlap in time share a stage."""
    ordered = sorted(node.children, key=lambda c: (node.children[c].offset_ms / node.children[c].groups, c))
    stages: list[list[Callee]] = []
    for callee in ordered:
        if stages and all(_overlap(node, callee, other) for other in stages[-1]):
            stages[-1].append(callee)
        else:
            stages.append([callee])
    return stages


def _overlap(node: Node, one: Callee, other: Callee) -> bool:
    pair = (one, other) if one < other else (other, one)
    return node.overlapping[pair] * 2 > node.together[pair]


def call_tree(root: Node, entry: Callee, name: Callable[[Callee], str]) -> dict[str, Any]:
    """The tree of a request class (`imbres_gym.application.Call`).

    Args:
        root: of the service.
        entry: whom end users call.
        name: `microservice/operation` or `store/operation` of a callee.
    """
    return _call(root, entry, name, 1, 1.0, 1.0)


def _call(
    node: Node, callee: Callee, name: Callable[[Callee], str], repeat: int, probability: float, visits: float
) -> dict[str, Any]:
    built: dict[str, Any] = {"call": name(callee)}
    if repeat > 1:
        built["repeat"] = repeat
    if probability < 1.0:
        built["probability"] = round(probability, 4)
    stages = []
    for stage in stages_of(node):
        calls = []
        for child in stage:
            below = node.children[child]
            per_visit = below.visits / node.visits
            if per_visit * visits >= LEAST_VISITS:
                chosen = repeat_and_probability(per_visit, min(1.0, below.callers / node.visits))
                calls.append(_call(below, child, name, *chosen, per_visit * visits))
        if calls:
            stages.append(calls)
    if stages:
        built["stages"] = stages
    return built
