"""A stand-in for Jaeger: takes OTLP/HTTP in JSON and answers Jaeger's two query APIs. It is not Jaeger.

No registry that a bed may use has Jaeger's binary. This program keeps the last spans in memory and speaks as much of
the protocols as the live agent and a person with `curl` need:

    POST /v1/traces                       OTLP/HTTP, JSON encoding
    GET  /api/services                    Jaeger's JSON API
    GET  /api/traces?service=&start=&end=&limit=&operation=     times in microseconds since the epoch
    GET  /api/traces/TRACE
    GET  /api/v3/traces?query.service_name=&query.start_time_min=&query.start_time_max=&query.num_traces=
                                          OTLP in JSON under "result"; times as RFC 3339

A query finds the traces in which a span of the service began in the window, the newest first, whole.
"""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse
from collections import OrderedDict
from datetime import datetime
from typing import Any

from scripts.testbed.layout import GATEWAY, TRACES_PORT

MAX_TRACES = 20_000
"""Older ones are forgotten: a few minutes of the bed's load, 40 MB (estimate)."""
DEFAULT_LIMIT = 100
KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
Json = dict[str, Any]


class Store:
    """Spans by trace: each is kept with its resource, as it came."""

    def __init__(self, limit: int = MAX_TRACES) -> None:
        self._limit = limit
        self._traces: OrderedDict[str, list[tuple[Json, Json]]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, request: Json) -> int:
        """Keep the spans of one OTLP request; returns their number."""
        count = 0
        with self._lock:
            for group in request["resourceSpans"]:
                for scope in group["scopeSpans"]:
                    for span in scope["spans"]:
                        self._traces.setdefault(span["traceId"], []).append((group["resource"], span))
                        count += 1
            while len(self._traces) > self._limit:
                self._traces.popitem(last=False)
        return count

    def services(self) -> list[str]:
        """Names of all services that have spans."""
        with self._lock:
            return sorted({service_of(resource) for trace in self._traces.values() for resource, _ in trace})

    def trace(self, trace_id: str) -> list[tuple[Json, Json]]:
        """The spans of one trace; empty if it is not known."""
        with self._lock:
            return list(self._traces.get(trace_id, ()))

    def find(
        self, service: str, begin_ns: int, end_ns: int, limit: int, operation: str | None = None
    ) -> dict[str, list[tuple[Json, Json]]]:
        """The newest traces that have a span of the service (and operation) which began in the window."""
        found: dict[str, list[tuple[Json, Json]]] = {}
        with self._lock:
            for trace_id in reversed(self._traces):
                if len(found) >= limit:
                    break
                spans = self._traces[trace_id]
                for resource, span in spans:
                    in_window = begin_ns <= int(span["startTimeUnixNano"]) <= end_ns
                    if in_window and service_of(resource) == service and operation in {None, span["name"]}:
                        found[trace_id] = list(spans)
                        break
        return found


def service_of(resource: Json) -> str:
    """The resource's `service.name`."""
    return str(attributes(resource).get("service.name", ""))


def attributes(holder: Json) -> Json:
    """OTLP's list of keys and typed values as a dict."""
    return {entry["key"]: next(iter(entry["value"].values())) for entry in holder.get("attributes", ())}


def as_jaeger(trace_id: str, spans: list[tuple[Json, Json]]) -> Json:
    """A trace as `/api/traces` writes it."""
    processes: dict[str, str] = {}
    described: Json = {}
    written = []
    for resource, span in spans:
        key = json.dumps(resource, sort_keys=True)
        if key not in processes:
            processes[key] = f"p{len(processes) + 1}"
            tags = [_tag(k, v) for k, v in attributes(resource).items() if k != "service.name"]
            described[processes[key]] = {"serviceName": service_of(resource), "tags": tags}
        begin_ns, end_ns = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
        parent = span.get("parentSpanId")
        reference = {"refType": "CHILD_OF", "traceID": trace_id, "spanID": parent}
        tags = [_tag(k, v) for k, v in attributes(span).items()]
        tags.append(_tag("span.kind", KINDS.get(span.get("kind", 1), "internal")))
        if span.get("status", {}).get("code") == 2:
            tags.append(_tag("error", True))
        written.append(
            {
                "traceID": trace_id,
                "spanID": span["spanId"],
                "flags": 1,
                "operationName": span["name"],
                "references": [reference] if parent else [],
                "startTime": begin_ns // 1000,
                "duration": (end_ns - begin_ns) // 1000,
                "tags": tags,
                "logs": [],
                "processID": processes[key],
                "warnings": None,
            }
        )
    return {"traceID": trace_id, "spans": written, "processes": described, "warnings": None}


def _tag(key: str, value: object) -> Json:
    kind = "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "string"
    return {"key": key, "type": kind, "value": value}


def as_otlp(traces: dict[str, list[tuple[Json, Json]]]) -> Json:
    """Traces as `/api/v3/traces` writes them."""
    groups = [
        {"resource": resource, "scopeSpans": [{"scope": {}, "spans": [span]}]}
        for spans in traces.values()
        for resource, span in spans
    ]
    return {"result": {"resourceSpans": groups}}


def answer(store: Store, path: str) -> tuple[int, Json]:
    """Status and body of a GET."""
    parts = urllib.parse.urlsplit(path)
    query = {key: values[0] for key, values in urllib.parse.parse_qs(parts.query).items()}
    try:
        if parts.path == "/api/services":
            return 200, {"data": store.services(), "errors": None}
        if parts.path == "/api/traces":
            begin, end = int(query.get("start", 0)) * 1000, int(query.get("end", 1 << 52)) * 1000
            limit = int(query.get("limit", DEFAULT_LIMIT))
            found = store.find(query["service"], begin, end, limit, query.get("operation"))
            return 200, {"data": [as_jaeger(*trace) for trace in found.items()], "errors": None}
        if parts.path.startswith("/api/traces/"):
            trace_id = parts.path.rpartition("/")[2]
            spans = store.trace(trace_id)
            return (200, {"data": [as_jaeger(trace_id, spans)], "errors": None}) if spans else _error(404, "not found")
        if parts.path == "/api/v3/traces":
            begin, end = (_nanoseconds(query[f"query.start_time_{edge}"]) for edge in ("min", "max"))
            limit = int(query.get("query.num_traces", query.get("query.search_depth", DEFAULT_LIMIT)))
            operation = query.get("query.operation_name")
            return 200, as_otlp(store.find(query["query.service_name"], begin, end, limit, operation))
    except (KeyError, ValueError) as error:
        return _error(400, f"missing or malformed parameter: {error}")
    return _error(404, "not found")


def _error(code: int, text: str) -> tuple[int, Json]:
    return code, {"data": None, "errors": [{"code": code, "msg": text}]}


def _nanoseconds(time: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; parts below the microsecond are dropped."""
    return int(datetime.fromisoformat(time).timestamp() * 1e6) * 1000


def make_server(address: str, port: int, store: Store) -> http.server.ThreadingHTTPServer:
    """The HTTP server around a store."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(*answer(store, self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path != "/v1/traces":
                return self._reply(*_error(404, "not found"))
            try:
                store.add(json.loads(body))
            except (ValueError, KeyError, TypeError) as error:
                return self._reply(*_error(400, f"not OTLP in JSON: {error!r}"))
            self._reply(200, {"partialSuccess": {}})

        def _reply(self, code: int, content: Json) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: one line a batch of spans helps nobody."""

    return http.server.ThreadingHTTPServer((address, port), Handler)


if __name__ == "__main__":
    make_server(GATEWAY, TRACES_PORT, Store()).serve_forever()
