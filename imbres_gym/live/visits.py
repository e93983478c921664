"""Own latency from traces: each visit of a microservice without the calls that it waits for.

A *visit* is a span that serves a call: of kind server or consumer; or, where the kind is unknown, one whose parent
belongs to another service or is missing. Its own latency is its duration without its children, overlapping ones counted
once, and cut to the span. A child of kind internal is work of the same visit: its own children count in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imbres_gym.live.traces import CLIENT_KINDS, SERVER_KINDS, RawSpan


@dataclass(frozen=True)
class Visit:
    """One call that a container served.

    Attributes:
        span: the span.
        parent: the visit's span that made the call, None at the root of the trace or where it is missing.
        complete: whether the chain of parents leads to a root that is there.
        own_ms: duration without children.
    """

    span: RawSpan
    parent: RawSpan | None
    complete: bool
    own_ms: float


def find_visits(spans: Iterable[RawSpan]) -> list[Visit]:
    """All visits of some traces, in the order of the spans."""
    by_trace: dict[str, dict[str, RawSpan]] = {}
    for span in spans:
        by_trace.setdefault(span.trace, {})[span.span] = span
    return [visit for of_trace in by_trace.values() for visit in _visits_of(of_trace)]


def _visits_of(spans: dict[str, RawSpan]) -> Iterator[Visit]:
    children: dict[str, list[RawSpan]] = {}
    for span in spans.values():
        if span.parent is not None and span.parent in spans:
            children.setdefault(span.parent, []).append(span)
    for span in spans.values():
        if _serves(span, spans):
            parent, complete = _caller(span, spans)
            yield Visit(span, parent, complete, _own_ms(span, children))


def _serves(span: RawSpan, spans: dict[str, RawSpan]) -> bool:
    if span.kind in SERVER_KINDS:
        return True
    if span.kind in CLIENT_KINDS or span.kind == "internal":
        return False
    parent = spans.get(span.parent) if span.parent is not None else None
    return parent is None or parent.service != span.service


def _caller(span: RawSpan, spans: dict[str, RawSpan]) -> tuple[RawSpan | None, bool]:
    """The visit that this one was called by, and whether the chain up to the root is whole (and no circle)."""
    seen = {span.span}
    caller: RawSpan | None = None
    while span.parent is not None:
        above = spans.get(span.parent)
        if above is None or above.span in seen:
            return caller, False
        seen.add(above.span)
        if caller is None and _serves(above, spans):
            caller = above
        span = above
    return caller, True


def _own_ms(span: RawSpan, children: dict[str, list[RawSpan]]) -> float:
    waits = sorted(
        (max(start_s, span.start_s), min(end_s, span.end_s)) for start_s, end_s in _waits(span, children, {span.span})
    )
    waited_s, until_s = 0.0, span.start_s
    for start_s, end_s in waits:
        start_s = max(start_s, until_s)
        if end_s > start_s:
            waited_s += end_s - start_s
            until_s = end_s
    return max(0.0, (span.end_s - span.start_s - waited_s) * 1000.0)


def _waits(span: RawSpan, children: dict[str, list[RawSpan]], seen: set[str]) -> Iterator[tuple[float, float]]:
    """Times of the children; through internal ones to theirs."""
    for child in children.get(span.span, ()):
        if child.span in seen:
            continue
        if child.kind == "internal" and child.service == span.service:
            yield from _waits(child, children, seen | {child.span})
        else:
            yield child.start_s, child.end_s
