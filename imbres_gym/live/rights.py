"""Everything that the controller asks of the API server: `live doctor` checks it, the shipped RBAC grants it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Right:
    """Some verbs on one resource.

    Attributes:
        group: API group, "" for the core.
        resource: plural.
        verbs: what is done to it.
        why: what for.
        subresource: "" for none.
        namespaced: whether it is in the application's namespace.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    subresource: str = ""
    namespaced: bool = True


RIGHTS = (
    Right("", "namespaces", ("get",), "the kill switch"),
    Right("", "nodes", ("list",), "where containers may run", namespaced=False),
    Right("", "pods", ("list",), "which containers there are"),
    Right("", "services", ("list",), "the addresses that rules are for"),
    Right("apps", "deployments", ("list", "patch"), "replica counts, and the annotation that keeps the original ones"),
    Right("apps", "deployments", ("patch",), "scaling", subresource="scale"),
    Right("autoscaling", "horizontalpodautoscalers", ("list",), "not to fight an autoscaler"),
    Right("policy", "poddisruptionbudgets", ("list",), "to respect budgets"),
    Right("coordination.k8s.io", "leases", ("get", "create", "update"), "leader election"),
    Right("imbres-gym.io", "connectionplans", ("list", "create", "patch", "delete"), "connection plans"),
)
"""The least rights of the controller."""
