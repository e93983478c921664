"""`imbres-gym live doctor`: is everything there that a live run needs, and if not, what is to be done about it?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbres_gym.config import ConfigError
from imbres_gym.live.config import LiveConfig
from imbres_gym.live.connection_plan import PlanSpec, plan_name
from imbres_gym.live.connections import ConnectionController
from imbres_gym.live.doctor_telemetry import check_telemetry
from imbres_gym.live.info import problems
from imbres_gym.live.observer import ClusterState, KubeObserver
from imbres_gym.live.rights import RIGHTS
from imbres_gym.live.scaling import autoscaled

if TYPE_CHECKING:
    from lightkube import Client

AGENT_WAIT_S = 10.0
"""How long a node agent may take to report on a new plan: estimate; it acts within a second of hearing of it."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether it is as it has to be.
        detail: what was seen, or why it is wrong.
        fix: what to do; "" if nothing.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""

    def line(self) -> str:
        """One line of text."""
        fix = f"; fix: {self.fix}" if self.fix else ""
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.detail}{fix}"


def examine(config: LiveConfig, context: str, kubeconfig: Path | None, wait_s: float = AGENT_WAIT_S) -> Iterator[Check]:
    """All checks, one after another; those that need what an earlier one missed are left out.

    Args:
        config: of the run.
        context: see `imbres_gym.live.kube.connect`.
        kubeconfig: likewise.
        wait_s: how long to wait for the node agents.

    Raises:
        ConfigError: there is no such context.
    """
    from imbres_gym.live.kube import connect

    client = connect(context, config.namespace, kubeconfig)
    try:
        yield _check_agent(config)
        reachable = _check_namespace(client, config, context)
        yield reachable
        state = None
        if reachable.ok:
            yield from _check_rights(client, config)
            state, checks = _look(client, config)
            yield from checks
        if state is not None:
            yield _check_autoscalers(client, config, state)
            yield from _check_plans(client, config, state, wait_s)
        for name, ok, detail, fix in check_telemetry(config, state):
            yield Check(name, ok, detail, fix)
        yield from _check_redis(config)
    finally:
        client.close()


def _check_agent(config: LiveConfig) -> Check:
    from imbres_gym.live.run import load_agent

    try:
        return Check("agent", True, load_agent(config.agent).name)
    except ConfigError as error:
        return Check("agent", False, str(error), "correct the key agent")


def _check_namespace(client: Client, config: LiveConfig, context: str) -> Check:
    import httpx2
    from lightkube import ApiError
    from lightkube.resources.core_v1 import Namespace

    try:
        client.get(Namespace, config.namespace)
    except ApiError as error:
        if error.response.status_code == 404:
            return Check(
                "kubernetes", False, f"there is no namespace {config.namespace!r}", "correct namespace, or deploy first"
            )
        return Check("kubernetes", False, str(error), "apply configs/kubernetes/controller-rbac.yaml")
    except httpx2.HTTPError as error:
        reason = str(error) or type(error).__name__
        return Check("kubernetes", False, f"context {context!r} does not answer: {reason}", "start it, or name another")
    return Check("kubernetes", True, f"context {context!r} answers, namespace {config.namespace!r} is there")


def _check_rights(client: Client, config: LiveConfig) -> Iterator[Check]:
    import httpx2

    denied: list[str] = []
    try:
        for right in RIGHTS:
            for verb in right.verbs:
                name = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
                if not _may(client, right, verb, config.namespace):
                    denied.append(f"{verb} {name} ({right.why})")
    except httpx2.HTTPError as error:
        yield Check(
            "rights", False, f"cannot be asked for: {error}", "let this account create selfsubjectaccessreviews"
        )
        return
    if denied:
        yield Check("rights", False, f"missing: {', '.join(denied)}", "apply configs/kubernetes/controller-rbac.yaml")
    else:
        yield Check("rights", True, f"all {sum(len(right.verbs) for right in RIGHTS)} are granted")


def _may(client: Client, right: Any, verb: str, namespace: str) -> bool:
    from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec
    from lightkube.resources.authorization_v1 import SelfSubjectAccessReview

    attributes = ResourceAttributes(
        group=right.group,
        resource=right.resource,
        subresource=right.subresource or None,
        verb=verb,
        namespace=namespace if right.namespaced else None,
    )
    review = client.create(SelfSubjectAccessReview(spec=SelfSubjectAccessReviewSpec(resourceAttributes=attributes)))
    return review.status is not None and review.status.allowed


def _look(client: Client, config: LiveConfig) -> tuple[ClusterState | None, list[Check]]:
    import httpx2

    try:
        state = KubeObserver(client, config).observe()
    except httpx2.HTTPError as error:
        return None, [Check("application", False, str(error), "see the rights above")]
    checks = [Check("application", False, problem) for problem in problems(config, state)]
    if not checks:
        ready = sum(pod.ready for pod in state.pods)
        containers = f"{ready} of {len(state.pods)} containers ready"
        seen = f"{len(state.workloads)} Deployments, {containers}, {len(state.nodes)} nodes"
        all_ready = ready == len(state.pods) > 0
        fix = "" if all_ready else "see: kubectl describe pods"
        checks.append(Check("application", all_ready, seen, fix))
    if state.kill_switch:
        fix = "take the annotation imbres-gym.io/kill-switch off the namespace"
        checks.append(Check("kill switch", False, "it is on: nothing would be changed", fix))
    return state, checks


def _check_autoscalers(client: Client, config: LiveConfig, state: ClusterState) -> Check:
    import httpx2

    try:
        ours = {workload.name for workload in state.workloads.values()}
        conflicts = sorted(autoscaled(client, config.namespace) & ours)
    except httpx2.HTTPError as error:
        return Check("autoscalers", False, str(error), "see the rights above")
    if conflicts:
        fix = "delete the HorizontalPodAutoscalers, or these Deployments will not be scaled"
        return Check("autoscalers", False, f"an autoscaler scales {', '.join(conflicts)}", fix)
    return Check("autoscalers", True, "none scales these Deployments")


def _check_plans(client: Client, config: LiveConfig, state: ClusterState, wait_s: float) -> Iterator[Check]:
    """The custom resource is there, and on every node somebody reports on it."""
    import httpx2

    try:
        ConnectionController(client, config).found()
    except httpx2.HTTPError as error:
        # A resource that a server does not have is a bare 404, no ApiError.
        missing = isinstance(error, httpx2.HTTPStatusError) and error.response.status_code == 404
        detail = "the API server does not know it" if missing else str(error)
        fix = "apply configs/kubernetes/crd.yaml" if missing else "see the rights above"
        yield Check("connection plans", False, detail, fix)
        return
    yield Check("connection plans", True, "the API server knows the custom resource")
    if state.kill_switch:
        return
    try:
        silent, wrong = _ask_agents(client, config, [node.name for node in state.nodes], wait_s)
    except httpx2.HTTPError as error:
        yield Check("node agents", False, str(error), "see the rights above")
        return
    if silent or wrong:
        seen = [f"no answer from {', '.join(silent)} in {wait_s:g} s"] if silent else []
        fix = "apply configs/kubernetes/node-agent.yaml, and see its log"
        yield Check("node agents", False, "; ".join(seen + wrong), fix)
    else:
        yield Check("node agents", True, f"all {len(state.nodes)} nodes answer")


def _ask_agents(client: Client, config: LiveConfig, nodes: list[str], wait_s: float) -> tuple[list[str], list[str]]:
    """Nodes without an answer, and the errors of others; plans that were made to ask are deleted again."""
    controller = ConnectionController(client, config)
    made = controller.ask(
        {node: PlanSpec(node=node, expires_after_s=config.safety.plan_expires_s, pods=()) for node in nodes}
    )
    try:
        waiting, wrong = set(nodes), []
        deadline = time.monotonic() + wait_s
        while True:
            plans = controller.objects()
            for node in sorted(waiting):
                plan = plans.get(plan_name(config.application.name, node))
                if plan is None:
                    continue  # a controller that runs meanwhile has no use for an empty plan
                status = plan.get("status") or {}
                if status.get("observedGeneration") == plan.metadata.generation:
                    waiting.discard(node)
                    wrong += [f"{node}: {status['error']}"] if status.get("error") else []
            if not waiting or time.monotonic() >= deadline:
                return sorted(waiting), wrong
            time.sleep(min(0.2, wait_s))
    finally:
        controller.delete(made)


def _check_redis(config: LiveConfig) -> Iterator[Check]:
    if config.redis is None:
        return
    problem = _ask_redis(config.redis)
    fix = "start it, or correct the key redis" if problem else ""
    yield Check("redis", problem is None, problem or f"{config.redis} answers", fix)


def _ask_redis(url: str) -> str | None:
    """Why Redis cannot be used; None if it can."""
    try:
        import redis
    except ImportError:
        return "its client is not installed: pip install 'imbres-gym[live]'"
    ask: Callable[..., Any] = redis.Redis.from_url
    try:
        with ask(url, socket_connect_timeout=3.0, socket_timeout=3.0) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return f"{url}: {error}"
    return None
