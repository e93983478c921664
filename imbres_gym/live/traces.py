"""Traces as Jaeger's HTTP API writes them, in both of its forms, as one list of spans.

`/api/v3/traces` answers with OTLP JSON (`result.resourceSpans`), `/api/traces` with Jaeger's own form (`data` with
`spans` and `processes`). A span that lacks what is needed (an id, a start, a duration) is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SERVER_KINDS = {"server", "consumer"}
CLIENT_KINDS = {"client", "producer"}
_OTLP_KINDS = {
    0: "", 1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer",
    "SPAN_KIND_UNSPECIFIED": "", "SPAN_KIND_INTERNAL": "internal", "SPAN_KIND_SERVER": "server",
    "SPAN_KIND_CLIENT": "client", "SPAN_KIND_PRODUCER": "producer", "SPAN_KIND_CONSUMER": "consumer",
}  # fmt: skip
"""`Span.kind` of opentelemetry/proto/trace/v1/trace.proto, by number and by name."""
_POD_TAGS = ("k8s.pod.name", "pod", "hostname", "host.name")
"""Where a pod's name is found, best first: OpenTelemetry's semantic convention, then what Jaeger's clients write, which
in a pod is the pod's name."""


@dataclass(frozen=True)
class RawSpan:
    """One span.

    Attributes:
        trace, span: ids; `span` is unique in the trace.
        parent: id of the span that called, None at the root.
        service, operation: names.
        kind: "server", "client", "internal", "producer", "consumer", or "" if unknown.
        pod: name of the pod, "" if unknown.
        start_s, end_s: since the epoch.
    """

    trace: str
    span: str
    parent: str | None
    service: str
    operation: str
    kind: str
    pod: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Traces:
    """What one answer held.

    Attributes:
        spans: in the order of the answer, each (trace, span) once.
        dropped: spans that could not be read.
    """

    spans: tuple[RawSpan, ...]
    dropped: int


def parse_traces(answer: Any) -> Traces:
    """The spans of an answer of either form; also of a bare list of traces, or one trace.

    Raises:
        ValueError: the answer has neither form.
    """
    if isinstance(answer, Mapping) and isinstance(answer.get("result"), Mapping):
        answer = answer["result"]
    if isinstance(answer, Mapping) and "resourceSpans" in answer:
        return _collect(_otlp(answer))
    if isinstance(answer, Mapping) and isinstance(answer.get("data"), list | Mapping):
        answer = answer["data"]
    if isinstance(answer, Mapping) and "spans" in answer:
        answer = [answer]
    if isinstance(answer, list):
        return _collect(_jaeger(answer))
    if isinstance(answer, Mapping) and answer.get("data") is None and "data" in answer:
        return Traces((), 0)
    raise ValueError("neither resourceSpans (OTLP) nor data (Jaeger) is in the answer")


def _collect(found: Iterator[RawSpan | None]) -> Traces:
    spans: dict[tuple[str, str], RawSpan] = {}
    dropped = 0
    for span in found:
        if span is None or span.end_s < span.start_s:
            dropped += 1
        else:
            spans.setdefault((span.trace, span.span), span)
    return Traces(tuple(spans.values()), dropped)


def _otlp(answer: Mapping[str, Any]) -> Iterator[RawSpan | None]:
    for resource_spans in _dicts(answer.get("resourceSpans")):
        resource = resource_spans.get("resource")
        tags = _otlp_tags(resource.get("attributes") if isinstance(resource, Mapping) else None)
        for scope in _dicts(resource_spans.get("scopeSpans")):
            for span in _dicts(scope.get("spans")):
                yield _otlp_span(span, tags)


def _otlp_span(span: Mapping[str, Any], tags: Mapping[str, str]) -> RawSpan | None:
    try:
        return RawSpan(
            trace=_name(span["traceId"]),
            span=_name(span["spanId"]),
            parent=str(span.get("parentSpanId") or "") or None,
            service=tags.get("service.name", ""),
            operation=str(span.get("name", "")),
            kind=_OTLP_KINDS.get(span.get("kind", 0), ""),
            pod=_pod(tags),
            start_s=int(span["startTimeUnixNano"]) * 1e-9,
            end_s=int(span["endTimeUnixNano"]) * 1e-9,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _otlp_tags(attributes: Any) -> dict[str, str]:
    tags: dict[str, str] = {}
    for attribute in _dicts(attributes):
        value = attribute.get("value")
        if isinstance(value, Mapping) and len(value) == 1:
            tags[str(attribute.get("key"))] = str(next(iter(value.values())))
    return tags


def _jaeger(traces: list[Any]) -> Iterator[RawSpan | None]:
    for item in _dicts(traces):
        # A bare list of spans, each with its process inside, is the other form that Jaeger's tests use.
        spans = [item] if "spanID" in item else _dicts(item.get("spans"))
        processes = item.get("processes") if isinstance(item.get("processes"), Mapping) else {}
        for span in spans:
            yield _jaeger_span(span, processes or {})


def _jaeger_span(span: Mapping[str, Any], processes: Mapping[str, Any]) -> RawSpan | None:
    process = span.get("process") or processes.get(str(span.get("processID")))
    tags = _jaeger_tags(span.get("tags"))
    try:
        trace = _name(span["traceID"])
        start_us, duration_us = int(span["startTime"]), int(span["duration"])
        return RawSpan(
            trace=trace,
            span=_name(span["spanID"]),
            parent=_jaeger_parent(span, trace),
            service=str(process.get("serviceName", "")) if isinstance(process, Mapping) else "",
            operation=str(span.get("operationName", "")),
            kind=tags.get("span.kind", ""),
            pod=_pod(_jaeger_tags(process.get("tags")) if isinstance(process, Mapping) else {}),
            start_s=start_us * 1e-6,
            end_s=(start_us + duration_us) * 1e-6,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _jaeger_parent(span: Mapping[str, Any], trace: str) -> str | None:
    """The first CHILD_OF of the same trace, else the first FOLLOWS_FROM: Jaeger's own rule."""
    references = [r for r in _dicts(span.get("references")) if str(r.get("traceID")) == trace and r.get("spanID")]
    references.sort(key=lambda reference: reference.get("refType") != "CHILD_OF")
    return str(references[0]["spanID"]) if references else None


def _jaeger_tags(tags: Any) -> dict[str, str]:
    return {str(tag.get("key")): str(tag.get("value")) for tag in _dicts(tags)}


def _pod(tags: Mapping[str, str]) -> str:
    return next((tags[name] for name in _POD_TAGS if tags.get(name)), "")


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("an id is missing")
    return value


def _dicts(items: Any) -> list[Mapping[str, Any]]:
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
