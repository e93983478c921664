"""The one way to Kubernetes' API: a context that the user names, never the ambient default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbres_gym.config import ConfigError, nearest
from imbres_gym.live.connection_plan import GROUP, KIND, PLURAL, VERSION

if TYPE_CHECKING:
    from lightkube import Client

FIELD_MANAGER = "imbres-gym"
"""Owner of what is written, as server-side apply and `kubectl get --show-managed-fields` name it."""
IN_CLUSTER = "in-cluster"
"""The context's name that means: this program runs in a pod, and acts with the pod's service account."""
DEFAULT_KUBECONFIG = Path("~/.kube/config")
TIMEOUT_S = 10.0
"""Longest wait for an answer of the API server; a watch waits longer on its own account."""


def connect(context: str, namespace: str, kubeconfig: Path | None = None) -> Client:
    """A client for one context of a kubeconfig file; nothing is asked of the API server yet.

    Args:
        context: a context's name in the file, or `IN_CLUSTER`.
        namespace: of every namespaced resource that is asked for without one.
        kubeconfig: the file; `~/.kube/config` if None. The variable KUBECONFIG is not read.

    Raises:
        ConfigError: lightkube is not installed, the file cannot be read, or it has no such context.
    """
    try:
        import httpx2
        from lightkube import Client, KubeConfig
        from lightkube.core.exceptions import ConfigError as KubeConfigError
    except ImportError:
        raise ConfigError("Kubernetes needs the extra 'live': pip install 'imbres-gym[live]'") from None
    path = (kubeconfig or DEFAULT_KUBECONFIG).expanduser()
    try:
        if context == IN_CLUSTER:
            config = KubeConfig.from_service_account()
        else:
            config = KubeConfig.from_file(path)
            if context not in config.contexts:
                raise ConfigError(f"{path}: no context {context!r}; {nearest(context, config.contexts)}")
        return Client(
            config=config.get(None if context == IN_CLUSTER else context),
            namespace=namespace,
            field_manager=FIELD_MANAGER,
            timeout=httpx2.Timeout(TIMEOUT_S),
            trust_env=False,
        )
    except KubeConfigError as error:
        where = "the pod's service account" if context == IN_CLUSTER else str(path)
        raise ConfigError(f"{where}: not a usable kubeconfig: {error}") from None


def plan_resource() -> Any:
    """The class that lightkube makes for the custom resource `ConnectionPlan`."""
    from lightkube.generic_resource import create_namespaced_resource

    return create_namespaced_resource(GROUP, VERSION, KIND, PLURAL)
