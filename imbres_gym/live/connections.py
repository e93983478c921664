"""The connection controller: weights of pairs of containers become one `ConnectionPlan` object per node."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from imbres_gym.live.config import LiveConfig
from imbres_gym.live.connection_plan import (
    APPLICATION_LABEL,
    RENEWED,
    PlanSpec,
    PodRules,
    ServiceRules,
    Target,
    plan_name,
)
from imbres_gym.live.kube import plan_resource
from imbres_gym.live.observer import ClusterState, Pod, ServicePort
from imbres_gym.live.routes import Rows

if TYPE_CHECKING:
    from lightkube import Client

NO_LEASE = "not written: the lease could not be renewed in time"
WEIGHT_DIGITS = 6
"""Digits of a weight: finer ones would be noise that makes every plan a new one. What rounds to 0 gets no rule."""


@dataclass
class Applied:
    """What one round of writing did.

    Attributes:
        written: plans created or changed.
        renewed: plans that were right already.
        deleted: plans of nodes that need none.
        nodes: nodes that have a plan.
        pending: nodes whose agent has not yet reported on the plan as it was before this round.
        complaints: node -> error that its agent reports.
        errors: what could not be written; a node's name first.
    """

    written: int = 0
    renewed: int = 0
    deleted: int = 0
    nodes: int = 0
    complaints: dict[str, str] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class ConnectionController:
    """Writes the plans of one application; reads what the node agents report.

    Args:
        client: to Kubernetes.
        config: names the application.
        may_write: asked before every single write of `apply`; once it says no, the rest is left.
    """

    def __init__(self, client: Client, config: LiveConfig, may_write: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._config = config
        self._may_write = may_write
        self._rounds = 0

    def apply(self, specs: Mapping[str, PlanSpec], token: str) -> Applied:
        """Bring the objects to these specs, and show every one a sign of life.

        Objects are read anew each time, so that what somebody else changed or deleted is put right. Where one fails,
        the others are written all the same.

        Args:
            specs: node -> plan; a node that is not named loses its object.
            token: of this controller; with a counter it is the value of the annotation `RENEWED`.

        Raises:
            httpx2.HTTPError: the objects cannot be read, so that nothing was written.
        """
        import httpx2

        self._rounds += 1
        renewed = {RENEWED: f"{token}/{self._rounds}"}
        applied = Applied(nodes=len(specs))
        found = self.objects()
        for node, spec in specs.items():
            name = plan_name(self._config.application.name, node)
            existing = found.pop(name, None)
            if existing is not None:
                _read_status(node, existing, applied)
            if not self._may_write():
                applied.errors.append(NO_LEASE)
                return applied
            try:
                self._write(name, spec, existing, renewed, applied)
            except httpx2.HTTPError as error:
                applied.errors.append(f"{node}: {error or type(error).__name__}")
        for name in found:
            if not self._may_write():
                applied.errors.append(NO_LEASE)
                return applied
            try:
                self._delete(name)
                applied.deleted += 1
            except httpx2.HTTPError as error:
                applied.errors.append(f"{name}: {error or type(error).__name__}")
        return applied

    def remove(self) -> Applied:
        """Delete every plan of the application: Kubernetes' own balancing is in force again."""
        return self.apply({}, "")

    def ask(self, specs: Mapping[str, PlanSpec]) -> list[str]:
        """Write these plans where there is none yet; returns the names of those that were made.

        Raises:
            httpx2.HTTPError: the objects cannot be read or written.
        """
        found, made = self.objects(), []
        for node, spec in specs.items():
            name = plan_name(self._config.application.name, node)
            if name not in found:
                self._write(name, spec, None, {RENEWED: "doctor"}, Applied())
                made.append(name)
        return made

    def delete(self, names: Sequence[str]) -> None:
        """Delete these objects; those that are gone already are no error.

        Raises:
            httpx2.HTTPError: one cannot be deleted.
        """
        for name in names:
            self._delete(name)

    def found(self) -> list[PlanSpec]:
        """The plans that are there and can be read.

        Raises:
            httpx2.HTTPError: the objects cannot be read.
        """
        specs = []
        for item in self.objects().values():
            with contextlib.suppress(ValidationError):
                specs.append(PlanSpec.model_validate(item.get("spec")))
        return specs

    def objects(self) -> dict[str, Any]:
        """Name -> object of every plan of the application.

        Raises:
            httpx2.HTTPError: they cannot be read.
        """
        labels: dict[str, Any] = {APPLICATION_LABEL: self._config.application.name}
        found = self._client.list(plan_resource(), namespace=self._config.namespace, labels=labels)
        return {item.metadata.name: item for item in found}

    def _write(
        self, name: str, spec: PlanSpec, existing: Any | None, renewed: dict[str, str], applied: Applied
    ) -> None:
        from lightkube.types import PatchType

        body = spec.model_dump(mode="json", by_alias=True)
        namespace = self._config.namespace
        if existing is None:
            labels = {APPLICATION_LABEL: self._config.application.name}
            metadata = {"name": name, "namespace": namespace, "labels": labels, "annotations": renewed}
            self._client.create(plan_resource()(metadata=metadata, spec=body), namespace=namespace)
            applied.written += 1
        elif existing.get("spec") == body:
            self._client.set(plan_resource(), name, annotations=renewed, namespace=namespace)
            applied.renewed += 1
        else:
            patch = {"metadata": {"annotations": renewed}, "spec": body}
            self._client.patch(plan_resource(), name, patch, patch_type=PatchType.MERGE, namespace=namespace)
            applied.written += 1

    def _delete(self, name: str) -> None:
        from lightkube import ApiError

        try:
            self._client.delete(plan_resource(), name, namespace=self._config.namespace)
        except ApiError as error:
            if error.response.status_code != 404:
                raise


def _read_status(node: str, existing: Any, applied: Applied) -> None:
    status = existing.get("status") or {}
    if status.get("error"):
        applied.complaints[node] = str(status["error"])
    if status.get("observedGeneration") != existing.metadata.generation:
        applied.pending.append(node)


def node_plans(
    rows: Mapping[int, Rows], pods: Mapping[int, Pod], state: ClusterState, config: LiveConfig
) -> dict[str, PlanSpec]:
    """The plan of each node whose pods need rules.

    A caller that is to call all containers alike gets no rule: that is what Kubernetes' Services do by themselves, also
    for containers that are not there yet.

    Args:
        rows: pair -> weights, by container id.
        pods: container id -> pod.
        state: with the Services' addresses.
        config: names the microservices' pairs and the lifetime of a plan.
    """
    names = config.application.microservice_names
    rules: dict[int, list[ServiceRules]] = {}
    for pair, of_pair in rows.items():
        downstream = names[config.application.pairs[pair][1]]
        ports = [port for port in state.ports if port.microservice == downstream and port.cluster_ip]
        for index, upstream in enumerate(of_pair.upstream.tolist()):
            weights = np.round(of_pair.weight[index], WEIGHT_DIGITS)
            if np.ptp(weights) <= 2.0 * 10.0**-WEIGHT_DIGITS:
                continue
            targets = [
                (pods[d], w) for d, w in zip(of_pair.downstream.tolist(), weights.tolist(), strict=True) if w > 0.0
            ]
            rules.setdefault(upstream, []).extend(_service_rules(port, targets) for port in ports)
    plans: dict[str, list[PodRules]] = {}
    for container in sorted(rules):
        pod = pods[container]
        if rules[container]:
            services = tuple(rules[container])
            plans.setdefault(pod.node, []).append(PodRules(name=pod.name, uid=pod.uid, services=services))
    expires = config.safety.plan_expires_s
    return {node: PlanSpec(node=node, expires_after_s=expires, pods=tuple(found)) for node, found in plans.items()}


def _service_rules(port: ServicePort, targets: list[tuple[Pod, float]]) -> ServiceRules:
    return ServiceRules.model_validate(
        {
            "service": port.service,
            "cluster_ip": port.cluster_ip,
            "port": port.port,
            "targets": [
                Target.model_validate({"ip": pod.ip, "port": _number(port, pod), "weight": weight})
                for pod, weight in targets
            ],
        }
    )


def _number(port: ServicePort, pod: Pod) -> int:
    """The pod's port behind a Service's; a name that the pod lacks falls back to the Service's number."""
    return port.target if isinstance(port.target, int) else pod.ports.get(port.target, port.port)
