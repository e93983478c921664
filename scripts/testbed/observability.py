"""What the live agent reads: Prometheus with its exporters, the trace store, and Redis for the performance table."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from scripts.testbed import processes
from scripts.testbed.layout import (
    GATEWAY,
    IMBRES_EXPORTER_PORT,
    KUBELET_PORT,
    NODE_EXPORTER_PORT,
    NODES,
    PROMETHEUS_PORT,
    REDIS_PORT,
    ROOT,
    RUN,
    TRACES_PORT,
    Node,
)
from scripts.testbed.steps import step, wait_until
from scripts.testbed.targets import FILE as POD_TARGETS

PROMETHEUS, TARGETS, TRACES, REDIS = "prometheus", "pod-targets", "trace-store", "redis"
PODS_EVERY, NODES_EVERY = "2s", "5s"
"""Scrape intervals: at least two samples of each pod in a control interval of 5 s; cAdvisor measures every 5 s."""
START_S = 30.0


def start() -> None:
    """Start all of it and wait for its answers."""
    with step("start Prometheus, exporters, trace store and Redis"):
        for node in NODES:
            start_exporters(node)
        _start_prometheus()
        processes.start(TARGETS, [sys.executable, "-m", "scripts.testbed.targets"], cwd=ROOT)
        processes.start(TRACES, [sys.executable, "-m", "scripts.testbed.trace_store"], cwd=ROOT)
        _start_redis()
        wait_until(lambda: _answers(PROMETHEUS, PROMETHEUS_PORT, "/-/ready"), "Prometheus ready", START_S)
        wait_until(lambda: _answers(TRACES, TRACES_PORT, "/api/services"), "trace store ready", START_S)
        processes.check_running(REDIS)


def _answers(name: str, port: int, path: str) -> bool:
    processes.check_running(name)
    try:
        with urllib.request.urlopen(f"http://{GATEWAY}:{port}{path}", timeout=2.0) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def start_exporters(node: Node) -> None:
    """Prometheus' node-exporter, which sees the shared machine, and the bed's own, which sees the node."""
    collectors = ("cpu", "netdev", "meminfo", "loadavg")
    command = ["prometheus-node-exporter", "--collector.disable-defaults", *(f"--collector.{c}" for c in collectors)]
    command.append(f"--web.listen-address={node.address}:{NODE_EXPORTER_PORT}")
    processes.start(f"{node.name}/node-exporter", command, node.namespace)
    command = [sys.executable, "-m", "scripts.testbed.node_metrics", node.name]
    processes.start(f"{node.name}/imbres-exporter", command, node.namespace, cwd=ROOT)


def _start_prometheus() -> None:
    folder = RUN / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    POD_TARGETS.write_text("[]")
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(prometheus_config(), sort_keys=False))
    command: list[str | Path] = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={GATEWAY}:{PROMETHEUS_PORT}", "--storage.tsdb.retention.time=6h"]
    processes.start(PROMETHEUS, command)


def prometheus_config() -> dict[str, Any]:
    """Targets are static but for the pods'."""

    def per_node(port: int) -> list[dict[str, Any]]:
        return [{"targets": [f"{node.address}:{port}"], "labels": {"node": node.name}} for node in NODES]

    cadvisor = {
        "job_name": "kubelet-cadvisor",
        "scheme": "https",
        "tls_config": {"insecure_skip_verify": True},
        "metrics_path": "/metrics/cadvisor",
        "static_configs": per_node(KUBELET_PORT),
        # What nobody asks for is most of what cAdvisor says.
        "metric_relabel_configs": [
            {
                "source_labels": ["__name__"],
                "regex": "container_(cpu_(usage_seconds|cfs_.*)_total|memory_working_set_bytes|spec_cpu_quota)",
                "action": "keep",
            }
        ],
    }
    pods = {"job_name": "pods", "scrape_interval": PODS_EVERY, "scrape_timeout": PODS_EVERY}
    return {
        "global": {"scrape_interval": NODES_EVERY, "scrape_timeout": NODES_EVERY},
        "scrape_configs": [
            {**pods, "file_sd_configs": [{"files": [str(POD_TARGETS)], "refresh_interval": "10s"}]},
            {"job_name": "imbres-node", "scrape_interval": "2s", "scrape_timeout": "2s"}
            | {"static_configs": per_node(IMBRES_EXPORTER_PORT)},
            {"job_name": "node-exporter", "static_configs": per_node(NODE_EXPORTER_PORT)},
            cadvisor,
        ],
    }


def _start_redis() -> None:
    folder = RUN / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = ["redis-server", "--bind", GATEWAY, "--port", str(REDIS_PORT), "--dir", folder]
    # Every write reaches the file within a second, so that a restarted Redis has what it had.
    processes.start(REDIS, [*command, "--protected-mode", "no", "--save", "", "--appendonly", "yes"])


def stop() -> None:
    """Stop all of it."""
    for name in (TARGETS, PROMETHEUS, TRACES, REDIS, *(n for n in processes.names() if n.endswith("-exporter"))):
        processes.stop(name)
