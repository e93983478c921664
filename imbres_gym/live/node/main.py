"""Puts a node agent together and runs it until SIGTERM or Ctrl-C."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from imbres_gym.config import ConfigError
from imbres_gym.live.kube import connect
from imbres_gym.live.metrics_server import MetricsServer
from imbres_gym.live.node.agent import Agent
from imbres_gym.live.node.api import KubernetesApi
from imbres_gym.live.node.backends import choose_backend
from imbres_gym.live.node.drain import Drain
from imbres_gym.live.node.enforcer import Enforcer
from imbres_gym.live.node.metrics import Metrics
from imbres_gym.live.node.namespaces import Namespaces
from imbres_gym.live.node.plans import PlanWatch

if TYPE_CHECKING:
    from lightkube import Client

log = logging.getLogger(__name__)


class _JsonLines(logging.Formatter):
    """One JSON object a line, so that a log collector needs no pattern."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def run_agent(
    node: str, context: str, kubeconfig: Path | None, *, check_interval_s: float, drain_per_s: int, port: int
) -> None:
    """Run the agent of one node.

    Args:
        node: its name in Kubernetes.
        context: of the kubeconfig file, or `imbres_gym.live.kube.IN_CLUSTER`.
        kubeconfig: the file; `~/.kube/config` if None.
        check_interval_s: how often rules are read back and repaired, and the kill switch is read [s].
        drain_per_s: established connections to close per second; 0 closes none.
        port: of `/metrics` and `/healthz`.

    Raises:
        ConfigError: no connection is configured, no way to write rules works here, or the port is taken.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would log every request
    backend = choose_backend()
    metrics = Metrics()
    namespaces = Namespaces()

    def new_client() -> Client:
        return connect(context, "default", kubeconfig)

    watch = PlanWatch(new_client, lambda reason: metrics.watch_failures.labels(reason).inc())
    with new_client() as client:
        agent = Agent(
            node,
            watch,
            KubernetesApi(client, node),
            Enforcer(backend, namespaces, metrics),
            Drain(drain_per_s, namespaces, metrics, time.monotonic) if drain_per_s else None,
            metrics,
            check_interval_s=check_interval_s,
        )
        try:
            server = MetricsServer(port, metrics.registry, agent.healthy, "the main loop stands still")
        except OSError as error:
            raise ConfigError(f"--port {port}: {error.strerror}") from None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        log.info("node %s: writing rules with %s", node, backend.name)
        watch.start()
        try:
            agent.run()
        finally:
            watch.stop()
            server.close()
    log.info("node %s: ended", node)
