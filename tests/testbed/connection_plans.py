"""Connection plans on the bed: those that are there, whether they are in force, and plans that a test writes itself."""

from __future__ import annotations

import time
from typing import Any

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Service
from live_cluster import APPLICATION, NAMESPACE, Bed

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


def plans(bed: Bed) -> dict[str, Any]:
    """The application's plans by name."""
    labels: dict[str, Any] = {APPLICATION_LABEL: APPLICATION}
    found = bed.client.list(plan_resource(), namespace=NAMESPACE, labels=labels)
    return {plan.metadata.name: plan for plan in found}


def in_force(bed: Bed) -> bool:
    """Whether there are plans, and all are in force as last written."""
    states = [(plan.status or {}, plan.metadata.generation) for plan in plans(bed).values()]
    return bool(states) and all(s.get("observedGeneration") == g and not s.get("error") for s, g in states)


class PlanWriter:
    """Writes plans as the connection controller does."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed

    def write(self, weights: dict[str, float], expires_s: float = 60.0) -> dict[str, PodRules]:
        """Give every frontend the same weights for pricing, by the address of its pods.

        Returns:
            What is planned for each frontend, by the pod's uid.
        """
        service = self.bed.client.get(Service, "pricing", namespace=NAMESPACE)
        assert service.spec is not None
        targets = tuple(Target(ip=ip, port=8080, weight=weight) for ip, weight in weights.items())
        rules = ServiceRules(service="pricing", cluster_ip=service.spec.clusterIP, port=8080, targets=targets)
        callers = self.bed.pods("frontend")
        planned: dict[str, PodRules] = {}
        for node in {pod.spec.nodeName for pod in callers}:
            mine = [pod.metadata for pod in callers if pod.spec.nodeName == node]
            pods = tuple(PodRules(name=meta.name, uid=meta.uid, services=(rules,)) for meta in mine)
            planned |= {pod.uid: pod for pod in pods}
            spec = PlanSpec(node=node, expires_after_s=expires_s, pods=pods)
            labels: dict[str, Any] = {APPLICATION_LABEL: APPLICATION}
            signs: dict[str, Any] = {RENEWED: str(time.monotonic_ns())}
            name = plan_name(APPLICATION, node)
            meta = ObjectMeta(name=name, namespace=NAMESPACE, labels=labels, annotations=signs)
            plan = plan_resource()(metadata=meta, spec=spec.model_dump(mode="json", by_alias=True))
            self.bed.client.apply(plan, field_manager="bed-tests", force=True)
        return planned

    def delete(self) -> None:
        """Take all plans away."""
        for name in plans(self.bed):
            self.bed.client.delete(plan_resource(), name, namespace=NAMESPACE)
