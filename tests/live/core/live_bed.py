"""An application on three nodes, with its Kubernetes, Prometheus and a live configuration: what the tests stand on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_kubernetes import FakeKubernetes
from fake_telemetry import FakePrometheus, Series, buckets

from imbres_gym.application import Application
from imbres_gym.live.config import LiveConfig
from imbres_gym.live.connection_plan import APPLICATION_LABEL, MICROSERVICE_LABEL

APPLICATION_YAML = """
name: shop
container: {cores: 0.5, memory_mb: 100}
hop_ms: 0.1
microservices:
  front: {operations: {ask: {cpu_ms: 2}}}
  cart: {operations: {get: {cpu_ms: 1}}}
  stock: {operations: {get: {cpu_ms: 1}}}
request_classes:
  browse:
    share: 1
    tree: {call: front/ask, stages: [[{call: cart/get}, {call: stock/get}]]}
"""
NAMES = ("front", "cart", "stock")
NODES = ("node-a", "node-b", "node-c")
NAMESPACE = "shop"


class Bed:
    """The fakes, and how the application behaves: every pod gets its part of the load, and is as slow as its node."""

    def __init__(self, folder: Path, replicas: int = 3) -> None:
        self.kubernetes = FakeKubernetes()
        self.prometheus = FakePrometheus()
        self.prometheus.series = self.series
        self.rps = 30.0
        self.node_cpu = dict.fromkeys(NODES, 0.2)
        self.own_s = dict.fromkeys(NODES, 0.008)
        self.e2e_s = 0.03
        self.replaced: dict[str, Series] = {}
        """Metric -> what Prometheus says in place of what the application does."""
        self.silent: set[str] = set()
        """Pods that report nothing."""
        self.folder = folder
        self._fill(replicas)

    def close(self) -> None:
        self.kubernetes.close()
        self.prometheus.close()

    def config(self, **changes: Any) -> LiveConfig:
        import yaml

        settings: dict[str, Any] = {
            "application": Application.model_validate(yaml.safe_load(APPLICATION_YAML)),
            "namespace": NAMESPACE,
            "sla_ms": 100.0,
            "max_replicas": 10,
            "prometheus": {"url": self.prometheus.url},
        }
        return LiveConfig.model_validate({**settings, **changes})

    def config_file(self, **changes: Any) -> Path:
        import yaml

        (self.folder / "shop.yaml").write_text(APPLICATION_YAML)
        settings: dict[str, Any] = {
            "application": "shop.yaml",
            "namespace": NAMESPACE,
            "sla_ms": 100.0,
            "max_replicas": 10,
            "prometheus": {"url": self.prometheus.url},
        }
        path = self.folder / "live.yaml"
        path.write_text(yaml.safe_dump({**settings, **changes}))
        return path

    def pods(self, microservice: str) -> list[dict[str, Any]]:
        return [p for p in self.kubernetes.of("pods") if p["metadata"]["labels"][MICROSERVICE_LABEL] == microservice]

    def replicas(self, microservice: str) -> int:
        return int(self.kubernetes.get("deployments", microservice, NAMESPACE)["spec"]["replicas"])

    def plans(self) -> dict[str, dict[str, Any]]:
        return {plan["metadata"]["name"]: plan for plan in self.kubernetes.of("connectionplans")}

    def series(self, metric: str) -> Series:
        if metric in self.replaced:
            return self.replaced[metric]
        pods = [pod for pod in self.kubernetes.of("pods") if pod["metadata"]["name"] not in self.silent]
        share = {name: self.rps / max(1, len(self.pods(name))) for name in NAMES}
        found: Series = []
        for pod in pods:
            name, node = pod["metadata"]["labels"][MICROSERVICE_LABEL], pod["spec"]["nodeName"]
            labels, rate = {"pod": pod["metadata"]["name"]}, share[name]
            match metric:
                case "container_cpu_usage_seconds_total":
                    found.append((labels, 0.1))
                case "imbres_requests_total":
                    found.append((labels, rate))
                case "imbres_own_latency_seconds_sum":
                    found.append((labels, rate * self.own_s[node]))
                case "imbres_own_latency_seconds_bucket":
                    found += buckets(labels, rate, self.own_s[node])
                case "imbres_own_latency_seconds_count":
                    found.append((labels, self.prometheus.time_s - 2.0))
        match metric:
            case "imbres_node_cpu_utilisation":
                found += [({"node": name}, value) for name, value in self.node_cpu.items()]
            case "imbres_e2e_latency_seconds_sum":
                found.append(({"request_class": "browse"}, self.rps * self.e2e_s))
            case "imbres_e2e_latency_seconds_bucket":
                found += buckets({"request_class": "browse"}, self.rps, self.e2e_s)
        return found

    def _fill(self, replicas: int) -> None:
        kubernetes = self.kubernetes
        kubernetes.put("namespaces", {"metadata": {"name": NAMESPACE}})
        for index, name in enumerate(NODES):
            status = {
                "allocatable": {"cpu": "4", "memory": "8Gi"},
                "addresses": [{"type": "InternalIP", "address": f"192.168.0.{index + 1}"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            }
            kubernetes.put(
                "nodes", {"metadata": {"name": name, "labels": {"pool": "apps"}}, "spec": {}, "status": status}
            )
        for index, name in enumerate(NAMES):
            labels = {APPLICATION_LABEL: "shop", MICROSERVICE_LABEL: name}
            container = {
                "name": "main",
                "image": "shop",
                "ports": [{"name": "http", "containerPort": 8080}],
                "resources": {"limits": {"cpu": "500m", "memory": "100M"}},
            }
            template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
            spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
            kubernetes.put("deployments", {"metadata": {"name": name, "labels": labels}, "spec": spec}, NAMESPACE)
            ports = [{"port": 8080, "targetPort": "http", "protocol": "TCP"}]
            service = {
                "metadata": {"name": name, "labels": labels},
                "spec": {"clusterIP": f"10.96.0.{index + 1}", "ports": ports},
            }
            kubernetes.put("services", service, NAMESPACE)
