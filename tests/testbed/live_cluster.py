"""What tests do on the bed: deploy, scale, load, ask Prometheus."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from imbres_gym.application import load_application
from imbres_gym.live import deploy, load_addresses
from imbres_gym.live.connection_plan import APPLICATION_LABEL, MICROSERVICE_LABEL
from imbres_gym.live.deploy_manifests import DeployOptions, manifests
from imbres_gym.live.kube import connect
from imbres_gym.live.load import Request, run_load
from scripts.testbed.layout import CONTEXT, GATEWAY, KUBECONFIG, PROMETHEUS_PORT, TRACES_PORT

APPLICATION = "bed-chain"
NAMESPACE = "bed-tests"
PROMETHEUS = f"http://{GATEWAY}:{PROMETHEUS_PORT}"
TRACES = f"http://{GATEWAY}:{TRACES_PORT}"
Series = dict[tuple[str, ...], float]


class Bed:
    """The running bed, seen as any cluster is: through its API server and Prometheus."""

    def __init__(self) -> None:
        self.client = connect(CONTEXT, NAMESPACE, KUBECONFIG)
        self.application = load_application(APPLICATION)

    def deploy(self, replicas: int, timeout_s: float = 180.0) -> None:
        counts = dict.fromkeys(self.application.microservices, replicas)
        options = DeployOptions(NAMESPACE, replicas=counts, otlp_url=TRACES, trace_sampling=0.2)
        deploy.apply(self.client, manifests(self.application, options), NAMESPACE)
        deploy.wait_ready(self.client, APPLICATION, NAMESPACE, timeout_s)

    def delete(self, application: str) -> None:
        deploy.delete(self.client, application, NAMESPACE)
        wait_for(lambda: not self.pods(), "no pods", 90.0)

    def pods(self, microservice: str | None = None) -> list[Any]:
        """Pods that are not being deleted."""
        from lightkube.resources.core_v1 import Pod

        labels = {APPLICATION_LABEL: APPLICATION}
        if microservice is not None:
            labels[MICROSERVICE_LABEL] = microservice
        found = self.client.list(Pod, namespace=NAMESPACE, labels=dict(labels))
        return [pod for pod in found if pod.metadata is not None and pod.metadata.deletionTimestamp is None]

    def scale(self, microservice: str, replicas: int) -> None:
        from lightkube.models.autoscaling_v1 import ScaleSpec
        from lightkube.models.meta_v1 import ObjectMeta
        from lightkube.resources.apps_v1 import Deployment

        scale = Deployment.Scale(metadata=ObjectMeta(name=microservice), spec=ScaleSpec(replicas=replicas))
        self.client.patch(Deployment.Scale, microservice, scale, namespace=NAMESPACE)

    def replicas(self) -> dict[str, int]:
        """Wanted replicas of every Deployment."""
        from lightkube.resources.apps_v1 import Deployment

        found = {}
        for deployment in self.client.list(Deployment, namespace=NAMESPACE):
            assert deployment.metadata is not None and deployment.spec is not None
            found[str(deployment.metadata.name)] = deployment.spec.replicas or 0
        return found

    def ready(self, microservice: str) -> int:
        from lightkube.resources.apps_v1 import Deployment

        status = self.client.get(Deployment, microservice, namespace=NAMESPACE).status
        return (status.readyReplicas or 0) if status is not None else 0

    def load(self, rps: float, duration_s: float, seed: int = 1) -> list[Request]:
        """Load from this machine, in this thread; all requests in the order of their end."""
        hosts = load_addresses.from_cluster(self.application, self.client, NAMESPACE)
        requests: list[Request] = []
        asyncio.run(run_load(self.application, hosts, rps, duration_s, seed, requests.append))
        return requests


class Background:
    """Load from a thread of its own while a test does other things."""

    def __init__(self, bed: Bed, rps: float, duration_s: float, seed: int) -> None:
        self.requests: list[Request] = []
        self._thread = threading.Thread(target=lambda: self.requests.extend(bed.load(rps, duration_s, seed)))
        self._thread.start()

    def join(self) -> list[Request]:
        self._thread.join()
        return self.requests


def query(expression: str, *labels: str) -> Series:
    """Prometheus' answer as values by the given labels."""
    answer = get(f"{PROMETHEUS}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
    return {
        tuple(item["metric"].get(label, "") for label in labels): float(item["value"][1])
        for item in answer["data"]["result"]
    }


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10.0) as reply:
        return json.load(reply)


def wait_for(condition: Callable[[], object], what: str, timeout_s: float, pause_s: float = 0.5) -> float:
    """Wait, and return how long it took [s]; a condition that cannot be asked yet is not met."""
    began = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - began
        except OSError:
            pass
        assert time.monotonic() - began < timeout_s, f"{what}: not after {timeout_s:g} s"
        time.sleep(pause_s)


def percentile(requests: list[Request], of: float) -> float:
    """Percentile of the latencies [ms]; a failed request counts as 10 s, as everywhere in this project."""
    ordered = sorted(request.latency_ms if request.ok else 10_000.0 for request in requests)
    return ordered[min(int(len(ordered) * of / 100.0), len(ordered) - 1)]


def served_by_pod(bed: Bed, microservice: str) -> dict[str, float]:
    """Requests that each pod has answered, by its address, as the pods themselves say."""
    counts = {}
    for pod in bed.pods(microservice):
        with urllib.request.urlopen(f"http://{pod.status.podIP}:8080/metrics", timeout=5.0) as reply:
            text = reply.read().decode()
        lines = [line for line in text.splitlines() if line.startswith("imbres_requests_total{")]
        counts[pod.status.podIP] = sum(float(line.rpartition(" ")[2]) for line in lines)
    return counts
