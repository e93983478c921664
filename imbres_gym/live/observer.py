"""What Kubernetes says of an application: its pods, Deployments, Services and nodes, read level-triggered, at once.

Every read is a list, never a watch: a state is whole or it is not there, an expired watch cannot exist, and a restart
has nothing to catch up with. With some hundred pods, a list per control interval costs the API server little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imbres_gym.live.config import LiveConfig
from imbres_gym.live.connection_plan import APPLICATION_LABEL, KILL_SWITCH, MICROSERVICE_LABEL

if TYPE_CHECKING:
    from lightkube import Client

ORIGINAL_REPLICAS = "imbres-gym.io/original-replicas"
"""Annotation of a Deployment: its replica count before the first change, so that a restart still knows it."""
_OWN_TAINTS = {
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
}
"""Taints that Kubernetes sets for a while by itself: such a node may run pods again."""


@dataclass(frozen=True)
class Pod:
    """A container of a microservice.

    Attributes:
        name, uid: of the pod.
        microservice: its name in the application.
        node: name, "" if it has none yet.
        ip: "" if it has none yet.
        ports: name -> number of its container ports.
        ready: takes requests.
        created: time of creation, as the API server wrote it: comparable, never subtracted from another clock.
    """

    name: str
    uid: str
    microservice: str
    node: str
    ip: str
    ports: dict[str, int]
    ready: bool
    created: str


@dataclass(frozen=True)
class Workload:
    """The Deployment of a microservice.

    Attributes:
        name: of the Deployment.
        microservice: its name in the application.
        replicas: wanted now.
        original: replicas before the first change; None if there was no change.
        labels: of its pods.
        cores: CPU limit of a pod [cores]; None without one.
        memory_mb: memory limit of a pod; None without one.
    """

    name: str
    microservice: str
    replicas: int
    original: int | None
    labels: dict[str, str]
    cores: float | None
    memory_mb: float | None


@dataclass(frozen=True)
class ServicePort:
    """One TCP port of the Service of a microservice.

    Attributes:
        service: name of the Service.
        microservice: its name in the application.
        cluster_ip: virtual address; "" if the Service has none (headless), so that no rule can be written for it.
        port: of the Service.
        target: of its pods, a number or the name of a container port.
    """

    service: str
    microservice: str
    cluster_ip: str
    port: int
    target: int | str


@dataclass(frozen=True)
class Node:
    """A node that may run the application.

    Attributes:
        name: of the node.
        ip: internal address, "" if unknown.
        cores: CPU that pods may use.
        memory_mb: memory that pods may use.
        ready: whether it says so.
    """

    name: str
    ip: str
    cores: float
    memory_mb: float
    ready: bool


@dataclass(frozen=True)
class ClusterState:
    """One look at the cluster.

    Attributes:
        pods: of the application, without those that are being deleted; by creation, then name.
        workloads: microservice -> Deployment.
        ports: of all Services of the application.
        nodes: by name.
        kill_switch: whether the namespace's annotation says that nothing may be changed.
    """

    pods: tuple[Pod, ...]
    workloads: dict[str, Workload]
    ports: tuple[ServicePort, ...]
    nodes: tuple[Node, ...]
    kill_switch: bool


class KubeObserver:
    """Reads the state of one application.

    Args:
        client: to Kubernetes.
        config: names the application and the namespace.
    """

    def __init__(self, client: Client, config: LiveConfig) -> None:
        self._client = client
        self._namespace = config.namespace
        labels = {APPLICATION_LABEL: config.application.name}
        self._where: dict[str, Any] = {"namespace": config.namespace, "labels": labels}
        self._node_labels: dict[str, Any] = dict(config.node_selector)
        self._known = set(config.application.microservice_names)

    def ready(self) -> set[str]:
        """Uids of the pods that take requests now.

        Raises:
            httpx2.HTTPError: the API server does not answer, or refuses (`lightkube.ApiError`).
        """
        from lightkube.resources.core_v1 import Pod

        return {pod.uid for item in self._client.list(Pod, **self._where) if _lives(item) and (pod := _pod(item)).ready}

    def observe(self) -> ClusterState:
        """The state now.

        Raises:
            httpx2.HTTPError: the API server does not answer, or refuses (`lightkube.ApiError`).
        """
        from lightkube.resources.apps_v1 import Deployment
        from lightkube.resources.core_v1 import Namespace, Node, Pod, Service

        client, where = self._client, self._where
        namespace = client.get(Namespace, self._namespace)
        annotations = (namespace.metadata.annotations if namespace.metadata else None) or {}
        pods = [_pod(pod) for pod in client.list(Pod, **where) if _lives(pod)]
        workloads = [_workload(deployment) for deployment in client.list(Deployment, **where)]
        services = [port for service in client.list(Service, **where) for port in _ports(service)]
        nodes = [_node(node) for node in client.list(Node, labels=self._node_labels or None) if _may_run(node)]
        return ClusterState(
            pods=tuple(sorted((p for p in pods if p.microservice in self._known), key=lambda p: (p.created, p.name))),
            workloads={w.microservice: w for w in workloads if w.microservice in self._known},
            ports=tuple(port for port in services if port.microservice in self._known),
            nodes=tuple(sorted(nodes, key=lambda node: node.name)),
            kill_switch=annotations.get(KILL_SWITCH) == "true",
        )


def _lives(pod: Any) -> bool:
    """Whether a pod serves or will: not being deleted, and not ended (an evicted pod stays, as Failed)."""
    phase = pod.status.phase if pod.status else None
    return pod.metadata.deletionTimestamp is None and phase not in {"Succeeded", "Failed"}


def _pod(pod: Any) -> Pod:
    status, spec = pod.status, pod.spec
    conditions = (status.conditions if status else None) or []
    ready = any(c.type == "Ready" and c.status == "True" for c in conditions)
    ip = (status.podIP if status else None) or ""
    ports = [port for container in spec.containers for port in container.ports or [] if port.name]
    return Pod(
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        microservice=(pod.metadata.labels or {}).get(MICROSERVICE_LABEL, ""),
        node=spec.nodeName or "",
        ip=ip,
        ports={port.name: port.containerPort for port in ports},
        ready=ready and bool(ip) and bool(spec.nodeName),
        created=pod.metadata.creationTimestamp.isoformat() if pod.metadata.creationTimestamp else "",
    )


def _workload(deployment: Any) -> Workload:
    metadata, spec = deployment.metadata, deployment.spec
    template = spec.template
    original = (metadata.annotations or {}).get(ORIGINAL_REPLICAS, "")
    return Workload(
        name=metadata.name,
        microservice=(metadata.labels or {}).get(MICROSERVICE_LABEL, ""),
        replicas=1 if spec.replicas is None else spec.replicas,
        original=int(original) if original.isdecimal() else None,
        labels=dict(template.metadata.labels or {}),
        cores=_limit(template.spec.containers, "cpu", 1.0),
        memory_mb=_limit(template.spec.containers, "memory", 1e-6),
    )


def _limit(containers: list[Any], resource: str, unit: float) -> float | None:
    """Sum of a limit over the containers of a pod; None if one of them has none."""
    limits = [(c.resources.limits or {}).get(resource) if c.resources else None for c in containers]
    return unit * sum(_quantity(limit) for limit in limits) if all(limits) else None


def _quantity(text: Any) -> float:
    from lightkube.utils.quantity import parse_quantity

    return float(parse_quantity(str(text)) or 0)


def _ports(service: Any) -> list[ServicePort]:
    spec = service.spec
    address = spec.clusterIP or ""
    return [
        ServicePort(
            service=service.metadata.name,
            microservice=(service.metadata.labels or {}).get(MICROSERVICE_LABEL, ""),
            cluster_ip="" if address == "None" else address,
            port=port.port,
            target=port.port if port.targetPort is None else port.targetPort,
        )
        for port in spec.ports or []
        if port.protocol in (None, "TCP")
    ]


def _may_run(node: Any) -> bool:
    taints = (node.spec.taints if node.spec else None) or []
    return not any(t.effect in {"NoSchedule", "NoExecute"} and t.key not in _OWN_TAINTS for t in taints)


def _node(node: Any) -> Node:
    status = node.status
    allocatable = (status.allocatable if status else None) or {}
    addresses = (status.addresses if status else None) or []
    conditions = (status.conditions if status else None) or []
    return Node(
        name=node.metadata.name,
        ip=next((a.address for a in addresses if a.type == "InternalIP"), ""),
        cores=_quantity(allocatable.get("cpu", 0)),
        memory_mb=_quantity(allocatable.get("memory", 0)) * 1e-6,
        ready=any(c.type == "Ready" and c.status == "True" for c in conditions),
    )
