"""Traces as telemetry has them: own latencies by pod, and a table of spans."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imbres_gym.application import Application
from imbres_gym.live.measurement import TracedLatency
from imbres_gym.live.traces import RawSpan
from imbres_gym.live.visits import Visit, find_visits
from imbres_gym.telemetry import SPAN

MAX_REMEMBERED = 20_000
"""Traces that are remembered as known: many times what one window holds (`jaeger.limit` is 5000 at most)."""


def traced_latencies(spans: Sequence[RawSpan]) -> dict[str, TracedLatency]:
    """Pod name -> own latencies of its visits; visits whose pod is not known are left out."""
    found: dict[str, list[float]] = {}
    for visit in find_visits(spans):
        if visit.span.pod:
            found.setdefault(visit.span.pod, []).append(visit.own_ms)
    return {pod: TracedLatency(np.array(own)) for pod, own in found.items()}


class SpanLog:
    """Turns traces into rows of dtype `SPAN`, each trace once: windows of successive intervals overlap.

    Args:
        application: names the services and the roots' operations.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._microservices = {name: index for index, name in enumerate(application.microservice_names)}
        self._roots = {request.tree.call: index for index, request in enumerate(application.request_classes.values())}
        self._seen: deque[str] = deque(maxlen=MAX_REMEMBERED)
        self._requests = 0
        self._spans = 0

    def add(self, spans: Sequence[RawSpan], start_s: float) -> tuple[NDArray[np.void], list[str]]:
        """The visits of whole new traces that began at an entry, and the pod of each.

        `container` is -1. Traces whose root is no request class of the application, and visits of services that it does
        not have (stores), are left out.

        Args:
            spans: of some traces.
            start_s: start of the episode by the clock of the spans; their times count from here.
        """
        known = set(self._seen)
        by_trace: dict[str, list[Visit]] = {}
        for visit in find_visits(span for span in spans if span.trace not in known):
            by_trace.setdefault(visit.span.trace, []).append(visit)
        rows: list[tuple[float | int, ...]] = []
        pods: list[str] = []
        for trace, visits in by_trace.items():
            request_class = self._class_of(visits)
            if request_class is None:
                continue
            self._seen.append(trace)
            number = {visit.span.span: self._spans + place for place, visit in enumerate(visits)}
            for visit in visits:
                if visit.complete and visit.span.service in self._microservices:
                    rows.append(self._row(visit, number, request_class, start_s))
                    pods.append(visit.span.pod)
            self._spans += len(visits)
            self._requests += 1
        return np.array(rows, SPAN), pods

    def _row(self, visit: Visit, number: dict[str, int], request_class: int, start_s: float) -> tuple[float | int, ...]:
        return (
            self._requests,
            number[visit.span.span],
            -1 if visit.parent is None else number[visit.parent.span],
            self._microservices[visit.span.service],
            -1,
            request_class,
            visit.span.start_s - start_s,
            visit.span.end_s - start_s,
            visit.own_ms,
        )

    def _class_of(self, visits: Sequence[Visit]) -> int | None:
        """The request class of a trace by its root's `service/operation`.

        By the service alone where only one class enters there: what an operation is called in a span is the tracing
        library's choice ("GET /hotels").
        """
        root = next((visit.span for visit in visits if visit.parent is None and visit.complete), None)
        if root is None:
            return None
        exact = self._roots.get(f"{root.service}/{root.operation}")
        if exact is not None:
            return exact
        classes = self._application.request_classes.values()
        entering = [index for index, request in enumerate(classes) if request.tree.target == root.service]
        return entering[0] if len(entering) == 1 else None
