"""One trace of the shop in both of Jaeger's forms."""

from __future__ import annotations

from typing import Any

SECOND = 1_700_000_000
# id, parent, service, operation, kind, pod, start [ms], end [ms]
SHOP = [
    ("a", None, "front", "ask", "server", "front-1", 0, 100),
    ("b", "a", "front", "call cart", "client", "front-1", 10, 50),
    ("c", "b", "cart", "get", "server", "cart-1", 15, 45),
    ("d", "a", "front", "call stock", "client", "front-1", 40, 70),
    ("e", "d", "stock", "get", "server", "stock-1", 42, 68),
    ("f", "c", "cart", "look up", "internal", "cart-1", 20, 40),
    ("g", "f", "database", "read", "client", "cart-1", 25, 35),
]
KINDS = {"internal": 1, "server": 2, "client": 3}


def otlp(trace: str = "t1", rows: list[Any] = SHOP) -> dict[str, Any]:
    resources = []
    for span, parent, service, operation, kind, pod, start, end in rows:
        attributes = [
            {"key": "service.name", "value": {"stringValue": service}},
            {"key": "k8s.pod.name", "value": {"stringValue": pod}},
        ]
        body = {
            "traceId": trace,
            "spanId": span,
            "parentSpanId": parent or "",
            "name": operation,
            "kind": KINDS[kind],
            "startTimeUnixNano": str(SECOND * 10**9 + start * 10**6),
            "endTimeUnixNano": str(SECOND * 10**9 + end * 10**6),
        }
        resources.append({"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [body]}]})
    return {"result": {"resourceSpans": resources}}


def jaeger(trace: str = "t1", rows: list[Any] = SHOP) -> dict[str, Any]:
    spans, processes = [], {}
    for number, (span, parent, service, operation, kind, pod, start, end) in enumerate(rows):
        reference = {"refType": "CHILD_OF", "traceID": trace, "spanID": parent}
        spans.append(
            {
                "traceID": trace,
                "spanID": span,
                "operationName": operation,
                "references": [reference] if parent else [],
                "startTime": SECOND * 10**6 + start * 1000,
                "duration": (end - start) * 1000,
                "tags": [{"key": "span.kind", "type": "string", "value": kind}],
                "processID": f"p{number}",
            }
        )
        tags = [{"key": "hostname", "type": "string", "value": pod}]
        processes[f"p{number}"] = {"serviceName": service, "tags": tags}
    return {"data": [{"traceID": trace, "spans": spans, "processes": processes}], "total": 0, "errors": None}
