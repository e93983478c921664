"""A node's utilisation for Prometheus, one program a node: `python3 -m scripts.testbed.node_metrics node1`.

What node-exporter measures on a bed is the machine that all nodes share. Here a node is its cgroup (containers and
best-effort jobs alike) against its CPU quota, and its network interface against a nominal bandwidth. Memory bandwidth
is not measured: a bed has no counters for it.
"""

from __future__ import annotations

import http.server
import sys
import threading
import time
from collections import deque
from pathlib import Path

from scripts.testbed.layout import CGROUPS, IMBRES_EXPORTER_PORT, NETWORK_BITS_PER_S, Node, node_named
from scripts.testbed.nodes import quota_cores

WINDOW_S = 5.0
"""Length of the mean: one control interval."""
PAUSE_S = 0.5


class Meter:
    """Mean utilisation of a node over the last `WINDOW_S`."""

    def __init__(self, node: Node, cgroups: Path = CGROUPS, interface: Path = Path("/proc/self/net/dev")) -> None:
        self._node = node
        self._usage = cgroups / "cpuacct" / node.cgroup / "cpuacct.usage"
        self._interface = interface
        self._samples: deque[tuple[float, float, float]] = deque()

    def sample(self, now_s: float) -> None:
        """Read the counters."""
        self._samples.append((now_s, int(self._usage.read_text()) / 1e9, self._bytes()))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - WINDOW_S:
            self._samples.popleft()

    def _bytes(self) -> float:
        """Bytes of the busier direction of the node's interface."""
        for line in self._interface.read_text().splitlines():
            name, _, counters = line.partition(":")
            if name.strip() == "eth0":
                fields = counters.split()
                return float(max(int(fields[0]), int(fields[8])))
        return 0.0

    def rates(self) -> tuple[float, float]:
        """CPU time per second [cores] and network traffic [bit/s]; zeros before the second sample."""
        if len(self._samples) < 2:
            return 0.0, 0.0
        (began, cpu, octets), (now, cpu_now, octets_now) = self._samples[0], self._samples[-1]
        return (cpu_now - cpu) / (now - began), 8.0 * (octets_now - octets) / (now - began)

    def text(self, cores: float) -> str:
        """In Prometheus' text format."""
        used, bits = self.rates()
        gauges = (
            ("cpu_utilisation", "CPU use of the node's cgroup over its quota [0-1].", used / cores),
            (
                "network_utilisation",
                "Traffic of the busier direction over the bandwidth [0-1].",
                bits / NETWORK_BITS_PER_S,
            ),
            ("cpu_cores", "CPU quota of the node [cores].", cores),
        )
        lines = []
        for name, text, value in gauges:
            name = f"imbres_node_{name}"
            lines += [
                f"# HELP {name} {text}",
                f"# TYPE {name} gauge",
                f'{name}{{node="{self._node.name}"}} {value:.6g}',
            ]
        return "\n".join(lines) + "\n"


def serve(node: Node) -> None:
    """Measure and answer until the program is ended."""
    meter = Meter(node)
    cores = quota_cores(node)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = meter.text(cores).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: one line a scrape helps nobody."""

    server = http.server.HTTPServer((node.address, IMBRES_EXPORTER_PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        meter.sample(time.monotonic())
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    found = node_named(sys.argv[1])
    if found is None:
        sys.exit(f"no node {sys.argv[1]!r}")
    serve(found)
