"""A Prometheus and a Jaeger over real HTTP: they say what a test makes them say."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fake_server import FakeServer

Series = list[tuple[dict[str, str], float]]
EDGES_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class HttpFake(FakeServer, ABC):
    """Answers GET requests with what `answer` returns: a status and a body."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                fake.asked.append((url.path, query))
                status, body = fake.answer(url.path, query)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.serve(Handler)

    @abstractmethod
    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        """Status and body."""


class FakePrometheus(HttpFake):
    """Answers a query by the first metric name in it."""

    def __init__(self) -> None:
        super().__init__()
        self.series: Callable[[str], Series] = lambda metric: []
        self.time_s = 1_000_000.0
        self.broken: tuple[int, Any] | None = None

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if self.broken is not None:
            return self.broken
        if path != "/api/v1/query":
            return 404, b"404 page not found"
        if query["query"] == "vector(1)":
            return 200, {"status": "success", "data": {"resultType": "vector", "result": []}}
        metric = re.search(r"(imbres|container)_\w+", query["query"])
        assert metric is not None, query
        result = [
            {"metric": labels, "value": [self.time_s, "NaN" if value != value else str(value)]}
            for labels, value in self.series(metric[0])
        ]
        return 200, {"status": "success", "data": {"resultType": "vector", "result": result}}


class FakeJaeger(HttpFake):
    """Answers `/api/v3/traces`, `/api/traces` or both with one answer each."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, tuple[int, Any]] = {}

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        return self.answers.get(path, (404, b"404 page not found"))


def buckets(labels: dict[str, str], rate: float, latency_s: float) -> Series:
    """Cumulative rates of a histogram whose observations are uniform between half and one and a half a latency."""
    low, high = 0.5 * latency_s, 1.5 * latency_s
    share = [min(max((edge - low) / (high - low), 0.0), 1.0) for edge in EDGES_S]
    series = [({**labels, "le": f"{edge:g}"}, rate * part) for edge, part in zip(EDGES_S, share, strict=True)]
    return [*series, ({**labels, "le": "+Inf"}, rate)]
