"""The custom resource `ConnectionPlan`: what the connection controller asks of the node agent of one node.

One object per application and node holds the weighted connections of all upstream pods of that node, so that every
object has one writer of its status (that node's agent) and stays far below etcd's limit of 1.5 MB.

The controller proves that it is alive by a new value of the annotation `RENEWED`, which does not change the
generation. An agent that sees no new value for `expires_after_s`, by its own monotonic clock, takes the rules out, and
Kubernetes' own balancing is in force again.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, IPvAnyAddress, field_validator, model_validator
from pydantic.alias_generators import to_camel

GROUP = "imbres-gym.io"
VERSION = "v1alpha1"
KIND = "ConnectionPlan"
PLURAL = "connectionplans"
APPLICATION_LABEL = "imbres-gym.io/application"
"""On plans, Deployments, Services and pods: the application's name."""
MICROSERVICE_LABEL = "imbres-gym.io/microservice"
"""On Deployments, Services and pods: the microservice's name in the application file."""
RENEWED = "imbres-gym.io/renewed"
"""Annotation of a plan: a value that is new whenever the controller is alive; it is compared, never read as a time."""
KILL_SWITCH = "imbres-gym.io/kill-switch"
"""Annotation of the namespace: "true" stops every change of its applications, and agents take their rules out."""
MAX_TARGETS = 10_000
"""Targets of one upstream pod (estimate: a hundred times what the paper uses)."""

Port = Annotated[int, Field(ge=1, le=65535)]


class _Resource(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


class Target(_Resource):
    """One downstream pod of an upstream pod."""

    ip: IPvAnyAddress
    port: Port
    weight: Annotated[float, Field(gt=0.0)]
    """Share of the new connections; only the ratio to the other targets' matters."""


class ServiceRules(_Resource):
    """The connections of one upstream pod to one Service; those to ports or Services not named are left alone."""

    service: str
    cluster_ip: IPvAnyAddress
    port: Port
    targets: Annotated[tuple[Target, ...], Field(min_length=1)]


class PodRules(_Resource):
    """All planned connections of one upstream pod."""

    name: str
    uid: str
    """A pod of the same name but another uid (after an eviction) is another pod: its rules are not written."""
    services: tuple[ServiceRules, ...]

    @model_validator(mode="after")
    def _one_rule_per_service(self) -> PodRules:
        seen = [(rules.cluster_ip, rules.port) for rules in self.services]
        if len(set(seen)) < len(seen):
            raise ValueError(f"pod {self.name}: a Service and port is named twice")
        if sum(len(rules.targets) for rules in self.services) > MAX_TARGETS:
            raise ValueError(f"pod {self.name}: more than {MAX_TARGETS} targets")
        return self


class PlanSpec(_Resource):
    """What the connection controller wants on one node."""

    node: str
    expires_after_s: Annotated[float, Field(gt=0.0, alias="expiresAfterSeconds")]
    pods: tuple[PodRules, ...]

    @field_validator("pods")
    @classmethod
    def _pods_once(cls, pods: tuple[PodRules, ...]) -> tuple[PodRules, ...]:
        names = [pod.name for pod in pods]
        if len(set(names)) < len(names):
            raise ValueError("a pod is named twice")
        return pods


class PlanStatus(_Resource):
    """What the node agent reports."""

    observed_generation: int
    """Generation of the spec that this status speaks of."""
    applied_at: str | None = None
    """Time at which the rules of this generation were last written, or found in force [RFC 3339]."""
    applied_pods: int = 0
    """Pods of the spec whose rules are in force."""
    error: str | None = None
    """Why not all of the spec is in force; None if it is."""


def plan_name(application: str, node: str) -> str:
    """Name of the object for one application on one node."""
    return f"{application}.{node}"
