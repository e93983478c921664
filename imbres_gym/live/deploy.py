"""Writes an application's objects to a cluster, waits until they are ready, and takes them away again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from imbres_gym.config import ConfigError
from imbres_gym.live.connection_plan import APPLICATION_LABEL
from imbres_gym.live.deploy_manifests import Manifest

if TYPE_CHECKING:
    from lightkube import Client

FIELD_MANAGER = "imbres-gym-deploy"
"""Owner of what `deploy` writes, apart from the live agent's changes."""
PAUSE_S = 0.5


@contextlib.contextmanager
def cluster_errors(doing: str) -> Iterator[None]:
    """Turn what the API server refuses, or its absence, into one clear message.

    Raises:
        ConfigError: holds what the server said.
    """
    import httpx2
    from lightkube.core.exceptions import ApiError

    try:
        yield
    except ApiError as error:
        raise ConfigError(f"{doing}: the API server refused: {error.status.message}") from None
    except httpx2.HTTPError as error:
        raise ConfigError(f"{doing}: cannot reach the API server: {error}") from None


def apply(client: Client, objects: Sequence[Manifest], namespace: str) -> None:
    """Make or change the objects, and their namespace if it is missing.

    Raises:
        ConfigError: the API server cannot be reached, or refuses.
    """
    from lightkube.codecs import from_dict

    with cluster_errors(f"namespace {namespace}"):
        _ensure_namespace(client, namespace)
    for manifest in objects:
        with cluster_errors(f"{manifest['kind']} {manifest['metadata']['name']}"):
            client.apply(from_dict(manifest), field_manager=FIELD_MANAGER, force=True)


def _ensure_namespace(client: Client, name: str) -> None:
    from lightkube.core.exceptions import ApiError
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Namespace

    try:
        client.get(Namespace, name)
    except ApiError as error:
        if error.status.code != 404:
            raise
        client.create(Namespace(metadata=ObjectMeta(name=name)))


def wait_ready(
    client: Client,
    application: str,
    namespace: str,
    timeout_s: float,
    tell: Callable[[dict[str, tuple[int, int]]], None] = lambda _: None,
) -> None:
    """Wait until every Deployment of the application has the replicas that it asks for, ready and up to date.

    Args:
        client: connected to the cluster.
        application: value of the application's label.
        namespace: of the Deployments.
        timeout_s: longest wait [s].
        tell: given (ready, wanted) of every Deployment whenever something changed.

    Raises:
        ConfigError: not ready in time; says which, and what the cluster says about it.
    """
    deadline = time.monotonic() + timeout_s
    before: dict[str, tuple[int, int]] = {}
    while True:
        with cluster_errors("Deployments"):
            now = _replicas(client, application, namespace)
        if now != before:
            tell(now)
        before = now
        waiting = [name for name, (ready, wanted) in now.items() if ready != wanted]
        if now and not waiting:
            return
        if time.monotonic() > deadline:
            reasons = _reasons(client, application, namespace)
            shown = f": {'; '.join(reasons)}" if reasons else ""
            raise ConfigError(f"not ready after {timeout_s:g} s: {', '.join(waiting)}{shown}")
        time.sleep(PAUSE_S)


def _replicas(client: Client, application: str, namespace: str) -> dict[str, tuple[int, int]]:
    """Replicas that are ready and of the newest template, and that are wanted, of each Deployment."""
    from lightkube.resources.apps_v1 import Deployment

    found = {}
    for deployment in client.list(Deployment, namespace=namespace, labels={APPLICATION_LABEL: application}):
        meta, spec, status = deployment.metadata, deployment.spec, deployment.status
        assert meta is not None and meta.name is not None and spec is not None
        wanted = 1 if spec.replicas is None else spec.replicas
        seen = status is not None and (status.observedGeneration or 0) >= (meta.generation or 0)
        settled = min(status.readyReplicas or 0, status.updatedReplicas or 0) if status is not None and seen else 0
        found[meta.name] = (settled, wanted)
    return found


def _reasons(client: Client, application: str, namespace: str) -> list[str]:
    """Why pods wait, in the cluster's words, each said once."""
    from lightkube.resources.core_v1 import Pod

    reasons: dict[str, None] = {}
    with cluster_errors("pods"):
        for pod in client.list(Pod, namespace=namespace, labels={APPLICATION_LABEL: application}):
            status = pod.status
            for condition in (status.conditions or []) if status is not None else []:
                if condition.status == "False" and condition.type == "PodScheduled" and condition.message:
                    reasons[condition.message] = None
            for container in (status.containerStatuses or []) if status is not None else []:
                waiting = container.state.waiting if container.state is not None else None
                if waiting is not None and waiting.reason not in {None, "ContainerCreating"}:
                    reasons[f"{waiting.reason}: {waiting.message}"] = None
    return list(reasons)


def delete(client: Client, application: str, namespace: str) -> list[str]:
    """Delete all Deployments, Services and ConfigMaps with the application's label; returns what they were.

    Raises:
        ConfigError: the API server cannot be reached, or refuses.
    """
    from lightkube.resources.apps_v1 import Deployment
    from lightkube.resources.core_v1 import ConfigMap, Service
    from lightkube.types import CascadeType

    deleted = []
    kinds: tuple[Any, ...] = (Deployment, Service, ConfigMap)
    for kind in kinds:
        with cluster_errors(f"{kind.__name__}s of {application}"):
            for item in client.list(kind, namespace=namespace, labels={APPLICATION_LABEL: application}):
                client.delete(kind, item.metadata.name, namespace=namespace, cascade=CascadeType.BACKGROUND)
                deleted.append(f"{kind.__name__} {item.metadata.name}")
    return deleted
