"""Real connections follow the weights of a ConnectionPlan, and go back to Kubernetes' own balancing without it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from live_cluster import APPLICATION, NAMESPACE, Bed, served_by_pod, wait_for

from imbres_gym.live.connection_plan import (
    APPLICATION_LABEL,
    GROUP,
    KIND,
    PLURAL,
    RENEWED,
    VERSION,
    PlanSpec,
    PodRules,
    ServiceRules,
    Target,
    plan_name,
)

WEIGHTS = (0.6, 0.3, 0.1)
DEVIATIONS = 4.0
"""Of the binomial distribution: a correct share is outside once in 16,000 comparisons."""


class Plans:
    """Writes plans as the connection controller does."""

    def __init__(self, bed: Bed) -> None:
        from lightkube.generic_resource import create_namespaced_resource

        self.bed = bed
        self.resource = create_namespaced_resource(GROUP, VERSION, KIND, PLURAL)

    def write(self, weights: dict[str, float], expires_s: float = 60.0) -> None:
        """Give every frontend the same weights for pricing, by the address of its pods."""
        from lightkube.models.meta_v1 import ObjectMeta
        from lightkube.resources.core_v1 import Service

        service = self.bed.client.get(Service, "pricing", namespace=NAMESPACE)
        assert service.spec is not None
        targets = tuple(Target(ip=ip, port=8080, weight=weight) for ip, weight in weights.items())
        rules = ServiceRules(service="pricing", cluster_ip=service.spec.clusterIP, port=8080, targets=targets)
        callers = self.bed.pods("frontend")
        for node in {pod.spec.nodeName for pod in callers}:
            mine = [pod.metadata for pod in callers if pod.spec.nodeName == node]
            pods = tuple(PodRules(name=meta.name, uid=meta.uid, services=(rules,)) for meta in mine)
            spec = PlanSpec(node=node, expires_after_s=expires_s, pods=pods)
            name = plan_name(APPLICATION, node)
            labels, signs = {APPLICATION_LABEL: APPLICATION}, {RENEWED: str(time.time_ns())}
            meta = ObjectMeta(name=name, namespace=NAMESPACE, labels=dict(labels), annotations=dict(signs))
            plan = self.resource(metadata=meta, spec=spec.model_dump(mode="json", by_alias=True))
            self.bed.client.apply(plan, field_manager="bed-tests", force=True)

    def all(self) -> list[Any]:
        return list(self.bed.client.list(self.resource, namespace=NAMESPACE))

    def applied(self) -> bool:
        """Whether every plan is in force as it was last written."""
        plans = self.all()
        states = [(plan.status or {}, plan.metadata.generation) for plan in plans]
        return bool(plans) and all(s.get("observedGeneration") == g and not s.get("error") for s, g in states)

    def delete(self) -> None:
        for plan in self.all():
            self.bed.client.delete(self.resource, plan.metadata.name, namespace=NAMESPACE)


@pytest.fixture
def plans(deployed: Bed) -> Iterator[Plans]:
    made = Plans(deployed)
    yield made
    made.delete()


def shares(bed: Bed, seed: int) -> tuple[dict[str, float], int]:
    """Shares of the pods of pricing in a period of load, and the number of calls."""
    before = served_by_pod(bed, "pricing")
    requests = bed.load(30.0, 20.0, seed)
    assert all(request.ok for request in requests)
    counts = {ip: count - before[ip] for ip, count in served_by_pod(bed, "pricing").items()}
    total = sum(counts.values())
    assert total == len(requests)
    return {ip: count / total for ip, count in counts.items()}, int(total)


def assert_follow(found: dict[str, float], expected: dict[str, float], count: int) -> None:
    for ip, share in expected.items():
        deviation = (share * (1.0 - share) / count) ** 0.5
        assert abs(found[ip] - share) < DEVIATIONS * deviation, (found, expected, count)


def test_connections_follow_the_weights_then_other_weights_then_none(deployed: Bed, plans: Plans) -> None:
    addresses = sorted(served_by_pod(deployed, "pricing"))
    first = dict(zip(addresses, WEIGHTS, strict=True))
    plans.write(first)
    applied_s = wait_for(plans.applied, "plans applied", 20.0, pause_s=0.05)
    found, count = shares(deployed, seed=1)
    assert_follow(found, first, count)

    second = dict(zip(addresses, reversed(WEIGHTS), strict=True))
    plans.write(second)
    wait_for(plans.applied, "plans applied", 20.0, pause_s=0.05)
    found, count = shares(deployed, seed=2)
    assert_follow(found, second, count)

    plans.delete()
    time.sleep(2.0)
    found, count = shares(deployed, seed=3)
    assert_follow(found, dict.fromkeys(addresses, 1.0 / 3.0), count)
    print(f"first plan in force after {applied_s:.2f} s; shares of {count} calls without a plan: {found}")


def test_a_plan_without_signs_of_life_goes_out_of_force(deployed: Bed, plans: Plans) -> None:
    addresses = sorted(served_by_pod(deployed, "pricing"))
    plans.write({addresses[0]: 1.0}, expires_s=5.0)
    wait_for(plans.applied, "plans applied", 20.0)
    time.sleep(12.0)
    found, count = shares(deployed, seed=4)
    assert_follow(found, dict.fromkeys(addresses, 1.0 / 3.0), count)
