"""What a node agent asks of the API server besides the plans: its pods, the kill switch, and the status it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from imbres_gym.live.connection_plan import KILL_SWITCH, PlanStatus
from imbres_gym.live.kube import plan_resource
from imbres_gym.live.node.plans import Key

if TYPE_CHECKING:
    from lightkube import Client
    from lightkube.models.core_v1 import PodSpec

NOT_FOUND = 404
MESHES = {"istio-proxy": "Istio", "linkerd-proxy": "Linkerd", "kuma-sidecar": "Kuma", "consul-dataplane": "Consul"}
"""Names that service meshes give to their sidecar containers (their documentation)."""


class ApiUnavailable(RuntimeError):
    """The API server did not do what was asked; the message says why."""


@dataclass(frozen=True)
class Pod:
    """A pod of this node. None of it changes during the pod's life."""

    namespace: str
    name: str
    hands_off: str | None = None
    """Why its connections are left alone; None if a plan may rule them."""


class NodeApi(Protocol):
    """The agent's requests; every one may raise `ApiUnavailable`."""

    def pods(self) -> dict[str, Pod]:
        """The pods of this node in all namespaces, by uid."""
        ...

    def stopped(self, namespace: str) -> bool:
        """Whether the namespace's kill switch is on, or the namespace is gone."""
        ...

    def report(self, plan: Key, status: PlanStatus) -> None:
        """Write a plan's status; of a plan that is gone nothing."""
        ...


class KubernetesApi:
    """The requests over lightkube.

    Args:
        client: connected.
        node: this node's name.
    """

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node

    def pods(self) -> dict[str, Pod]:
        """The pods of this node in all namespaces, by uid."""
        from lightkube import ALL_NS
        from lightkube.resources.core_v1 import Pod as PodResource

        found = {}
        try:
            for item in self._client.list(PodResource, namespace=ALL_NS, fields={"spec.nodeName": self._node}):
                if item.metadata is not None and item.spec is not None:
                    pod = Pod(item.metadata.namespace or "", item.metadata.name or "", _hands_off(item.spec))
                    found[item.metadata.uid or ""] = pod
        except _failures() as error:
            raise ApiUnavailable(f"the pods of this node cannot be listed: {error}") from None
        return found

    def stopped(self, namespace: str) -> bool:
        """Whether the namespace's kill switch is on, or the namespace is gone."""
        from lightkube.core.exceptions import ApiError
        from lightkube.resources.core_v1 import Namespace

        try:
            item = self._client.get(Namespace, namespace)
        except ApiError as error:
            if error.status.code == NOT_FOUND:
                return True
            raise ApiUnavailable(f"namespace {namespace} cannot be read: {error}") from None
        except _failures() as error:
            raise ApiUnavailable(f"namespace {namespace} cannot be read: {error}") from None
        annotations = (item.metadata.annotations if item.metadata else None) or {}
        return annotations.get(KILL_SWITCH) == "true"

    def report(self, plan: Key, status: PlanStatus) -> None:
        """Write a plan's status; of a plan that is gone nothing."""
        from lightkube.core.exceptions import ApiError
        from lightkube.types import PatchType

        namespace, name = plan
        # A merge patch: null takes a former error away.
        body = {"status": status.model_dump(mode="json", by_alias=True)}
        try:
            self._client.patch(plan_resource().Status, name, body, namespace=namespace, patch_type=PatchType.MERGE)
        except ApiError as error:
            if error.status.code != NOT_FOUND:
                raise ApiUnavailable(f"the status of plan {name} cannot be written: {error}") from None
        except _failures() as error:
            raise ApiUnavailable(f"the status of plan {name} cannot be written: {error}") from None


def _hands_off(spec: PodSpec) -> str | None:
    if spec.hostNetwork:
        return "it shares the node's network (hostNetwork), which is left alone"
    for container in (*(spec.containers or ()), *(spec.initContainers or ())):
        if container.name in MESHES:
            # Rules here would lead its connections around the sidecar, and so around encryption and policies.
            return (
                f"{MESHES[container.name]} directs its connections (container {container.name}), so its weights count"
            )
    return None


def _failures() -> tuple[type[Exception], ...]:
    """What lightkube raises where there is no answer, or none that can be read: what a proxy sends may be no JSON."""
    import httpx2

    # KeyError: it looks for the content type of an error, which may have none.
    return httpx2.HTTPError, ValueError, KeyError
