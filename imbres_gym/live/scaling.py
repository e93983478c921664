"""The deployment controller: replica counts of Deployments, inside bounds, budgets and the territory of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imbres_gym.live.config import LiveConfig
from imbres_gym.live.connections import NO_LEASE
from imbres_gym.live.observer import ORIGINAL_REPLICAS, ClusterState, Workload
from imbres_gym.live.safety import bounded_replicas

if TYPE_CHECKING:
    from lightkube import Client


@dataclass(frozen=True)
class Scaling:
    """What became of one decision about one microservice.

    Attributes:
        microservice: name.
        current: replicas before.
        wanted: what the agent decided.
        given: what is in force now (in a dry run: what would be).
        reasons: bounds that made `given` differ from `wanted`.
        error: why it could not be written, None if it was or did not need to be.
    """

    microservice: str
    current: int
    wanted: int
    given: int
    reasons: tuple[str, ...] = ()
    error: str | None = None


class DeploymentController:
    """Scales the Deployments of one application.

    It never waits: what a change led to is seen in the next interval's pods. The first change of a Deployment leaves
    its replica count in an annotation, so that this process or a later one can give it back.

    Args:
        client: to Kubernetes.
        config: bounds.
        may_write: asked before every single write.
        dry_run: decide, but write nothing.
    """

    def __init__(self, client: Client, config: LiveConfig, may_write: Callable[[], bool], dry_run: bool) -> None:
        self._client = client
        self._config = config
        self._may_write = may_write
        self._dry_run = dry_run

    def scale(self, state: ClusterState, wanted: Mapping[str, int]) -> list[Scaling]:
        """Bring Deployments nearer to what is wanted, one bounded step; says what became of each that should change.

        Raises:
            httpx2.HTTPError: autoscalers or budgets cannot be read, so that nothing was changed.
        """
        changes = {name: count for name, count in wanted.items() if count != state.workloads[name].replicas}
        if not changes:
            return []
        scaled_by_others = autoscaled(self._client, self._config.namespace)
        budgets = _budgets(self._client, self._config.namespace)
        return [
            self._scale_one(state, state.workloads[name], count, scaled_by_others, budgets)
            for name, count in changes.items()
        ]

    def restore(self, state: ClusterState) -> list[Scaling]:
        """Give every Deployment the replica count that was found before the first change, and forget it.

        Budgets do not count here: what was found is right by definition.
        """
        return [
            self._write(Scaling(w.microservice, w.replicas, w.original, w.original), w, forget=True)
            for w in state.workloads.values()
            if w.original is not None
        ]

    def forget(self, state: ClusterState) -> list[Scaling]:
        """Keep the replica counts as they are, and take the annotations away."""
        return [
            self._write(Scaling(w.microservice, w.replicas, w.replicas, w.replicas), w, forget=True)
            for w in state.workloads.values()
            if w.original is not None
        ]

    def _scale_one(
        self, state: ClusterState, workload: Workload, wanted: int, scaled_by_others: set[str], budgets: list[_Budget]
    ) -> Scaling:
        name, current = workload.microservice, workload.replicas
        if workload.name in scaled_by_others:
            return Scaling(name, current, wanted, current, ("hpa",))
        ready = sum(pod.ready and pod.microservice == name for pod in state.pods)
        given, reason = bounded_replicas(current, ready, wanted, self._config.bounds_of(name), self._config.safety)
        reasons = [reason] if reason else []
        allowed = min((b.allowed for b in budgets if b.selects(workload.labels)), default=current)
        if current - given > allowed:
            given = current - allowed
            reasons.append("pod-disruption-budget")
        return self._write(Scaling(name, current, wanted, given, tuple(reasons)), workload)

    def _write(self, scaling: Scaling, workload: Workload, forget: bool = False) -> Scaling:
        """The original count first, then the scale, then the removal of the original count.

        So a crash between any two of them leaves what a restart needs.
        """
        import httpx2

        if self._dry_run:
            return scaling
        try:
            if not forget and workload.original is None and scaling.given != scaling.current:
                self._annotate(workload.name, str(scaling.current))
            if scaling.given != scaling.current:
                self._set_replicas(workload.name, scaling.given)
            if forget:
                self._annotate(workload.name, None)
        except (httpx2.HTTPError, PermissionError) as error:
            failed = str(error) or type(error).__name__
            reasons = (*scaling.reasons, "error")
            return Scaling(scaling.microservice, scaling.current, scaling.wanted, scaling.current, reasons, failed)
        return scaling

    def _check_lease(self) -> None:
        if not self._may_write():
            raise PermissionError(NO_LEASE)

    def _annotate(self, deployment: str, original: str | None) -> None:
        from lightkube.resources.apps_v1 import Deployment

        self._check_lease()
        annotations: dict[str, Any] = {ORIGINAL_REPLICAS: original}
        self._client.set(Deployment, deployment, namespace=self._config.namespace, annotations=annotations)

    def _set_replicas(self, deployment: str, replicas: int) -> None:
        from lightkube.resources.apps_v1 import Deployment
        from lightkube.types import PatchType

        self._check_lease()
        patch = {"spec": {"replicas": replicas}}
        self._client.patch(
            Deployment.Scale, deployment, patch, namespace=self._config.namespace, patch_type=PatchType.MERGE
        )


def autoscaled(client: Client, namespace: str) -> set[str]:
    """Names of the Deployments that a HorizontalPodAutoscaler scales (autoscaling/v1: every server has it).

    Raises:
        httpx2.HTTPError: they cannot be read.
    """
    from lightkube.resources.autoscaling_v1 import HorizontalPodAutoscaler

    targets = [hpa.spec.scaleTargetRef for hpa in client.list(HorizontalPodAutoscaler, namespace=namespace) if hpa.spec]
    return {target.name for target in targets if target.kind == "Deployment"}


@dataclass(frozen=True)
class _Budget:
    """A PodDisruptionBudget: how many of the pods that it selects may go now."""

    match_labels: dict[str, str]
    match_expressions: tuple[dict[str, Any], ...]
    allowed: int

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether pods with these labels are protected by it."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            _matches(labels, expression) for expression in self.match_expressions
        )


def _matches(labels: Mapping[str, str], expression: Mapping[str, Any]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None  # DoesNotExist


def _budgets(client: Client, namespace: str) -> list[_Budget]:
    """PodDisruptionBudgets, from policy/v1 or, before Kubernetes 1.21, policy/v1beta1."""
    import httpx2
    from lightkube.generic_resource import create_namespaced_resource
    from lightkube.resources.policy_v1 import PodDisruptionBudget

    try:
        return [_budget(item.to_dict()) for item in client.list(PodDisruptionBudget, namespace=namespace)]
    except httpx2.HTTPStatusError as error:  # a group that a server does not have is a bare 404, no ApiError
        if error.response.status_code != 404:
            raise
    older = create_namespaced_resource("policy", "v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")
    return [_budget(item) for item in client.list(older, namespace=namespace)]


def _budget(item: Mapping[str, Any]) -> _Budget:
    selector = (item.get("spec") or {}).get("selector") or {}
    allowed = (item.get("status") or {}).get("disruptionsAllowed", 0)
    return _Budget(dict(selector.get("matchLabels") or {}), tuple(selector.get("matchExpressions") or ()), int(allowed))
