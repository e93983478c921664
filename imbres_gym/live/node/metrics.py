"""The agent's own metrics, and the small server that answers `/metrics` and `/healthz`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

PREFIX = "imbres_node_agent"
UPDATE_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Around the goal for 100 connections, 10 ms."""


class Metrics:
    """Counters of one agent, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.updates = Counter(
            f"{PREFIX}_updates",
            "Replacements of a pod's rules: written, repaired (someone else changed them), removed, failed",
            ["result"],
            registry=self.registry,
        )
        self.update_seconds = Histogram(
            f"{PREFIX}_update_seconds",
            "Time to replace the rules of one pod",
            buckets=UPDATE_BUCKETS_S,
            registry=self.registry,
        )
        self.pods = Gauge(f"{PREFIX}_pods", "Pods with rules in force", registry=self.registry)
        self.plans = Gauge(f"{PREFIX}_plans", "Plans of this node", registry=self.registry)
        self.problems = Gauge(
            f"{PREFIX}_plans_not_in_force", "Plans of this node that are not wholly in force", registry=self.registry
        )
        self.watch_failures = Counter(
            f"{PREFIX}_watch_failures",
            "Ends of the watch: expired, refused, unreachable, unreadable, silent",
            ["reason"],
            registry=self.registry,
        )
        self.api_failures = Counter(
            f"{PREFIX}_api_failures", "Failed requests for pods, namespaces and status", registry=self.registry
        )
        self.drained = Counter(
            f"{PREFIX}_drained_connections", "Established connections closed", registry=self.registry
        )


def serve(port: int, metrics: Metrics, healthy: Callable[[], bool]) -> ThreadingHTTPServer:
    """Answer `/metrics` and `/healthz` (200, or 503 if not healthy) in a thread; `shutdown()` ends it.

    Args:
        port: TCP port; 0 takes a free one.
        metrics: what `/metrics` shows.
        healthy: asked at each `/healthz`.

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
            elif self.path == "/healthz":
                good = healthy()
                self._answer(200 if good else 503, "text/plain", b"ok\n" if good else b"the main loop stands still\n")
            else:
                self._answer(404, "text/plain", b"there are /metrics and /healthz\n")

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: probes come every few seconds."""

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
