"""Everything that is written to the cluster in one control interval, and at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from imbres_gym.live.config import LiveConfig
from imbres_gym.live.connections import Applied, ConnectionController, node_plans
from imbres_gym.live.containers import Containers
from imbres_gym.live.keeper import Step
from imbres_gym.live.observer import ClusterState
from imbres_gym.live.scaling import DeploymentController, Scaling
from imbres_gym.plan import ConnectionPlan, Links
from imbres_gym.telemetry import ClusterInfo

if TYPE_CHECKING:
    from lightkube import Client

    from imbres_gym.live.connection_plan import PlanSpec


@dataclass
class Outcome:
    """What became of one interval's decision.

    Attributes:
        plans: what was done about the connection plans; None if nothing could be, or may be.
        scalings: what was done about replicas.
        errors: what this controller could not do, one line each.
        agents: node -> what is wrong with its agent.
    """

    plans: Applied | None = None
    scalings: list[Scaling] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    agents: dict[str, str] = field(default_factory=dict)

    def failed(self, min_coverage: float) -> bool:
        """Whether acting failed: a write did, or too many nodes do not have their plan in force.

        A single node agent that is ill concerns its node only, and is no reason to give up the others.

        Args:
            min_coverage: share of the nodes with a plan whose agents must be well [0-1].
        """
        nodes = self.plans.nodes if self.plans is not None else 0
        return bool(self.errors) or nodes - len(self.agents) < min_coverage * nodes


class Actions:
    """Writes through both controllers; a failure of one does not keep the other from its work.

    Args:
        client: to Kubernetes.
        config: what may be done.
        info: fixed facts of the episode.
        token: of this controller, see `ConnectionController.apply`.
        may_write: asked before every single write: a slow API server must not carry one over the end of the lease.
        dry_run: decide, but write nothing.
    """

    def __init__(
        self,
        client: Client,
        config: LiveConfig,
        info: ClusterInfo,
        token: str,
        may_write: Callable[[], bool],
        dry_run: bool,
    ) -> None:
        self._config = config
        self._info = info
        self._token = token
        self._dry_run = dry_run
        self._connections = ConnectionController(client, config, may_write)
        self._deployments = DeploymentController(client, config, may_write, dry_run)
        self._unheard: dict[str, int] = {}

    def act(self, state: ClusterState, containers: Containers, step: Step, wanted: Mapping[str, int]) -> Outcome:
        """Put a step in force, and bring replicas nearer to what is wanted."""
        import httpx2

        outcome = Outcome()
        specs = node_plans(step.rows, containers.by_id(), state, self._config)
        if self._dry_run:
            outcome.plans = Applied(written=len(specs))
        else:
            try:
                outcome.plans = self._connections.apply(specs, self._token)
                outcome.errors += outcome.plans.errors
                outcome.agents = self._silent_agents(outcome.plans) | outcome.plans.complaints
            except httpx2.HTTPError as error:
                outcome.errors.append(f"connection plans: {str(error) or type(error).__name__}")
        try:
            outcome.scalings = self._deployments.scale(state, wanted)
            outcome.errors += [f"{s.microservice}: {s.error}" for s in outcome.scalings if s.error]
        except httpx2.HTTPError as error:
            outcome.errors.append(f"scaling: {str(error) or type(error).__name__}")
        return outcome

    def leave(self, state: ClusterState) -> Outcome:
        """Take the plans away, and give replica counts back or keep them, as configured."""
        import httpx2

        outcome = Outcome()
        try:
            outcome.plans = self._connections.remove()
            outcome.errors += outcome.plans.errors
        except httpx2.HTTPError as error:
            outcome.errors.append(f"connection plans: {str(error) or type(error).__name__}")
        restore = self._config.on_exit == "restore"
        outcome.scalings = self._deployments.restore(state) if restore else self._deployments.forget(state)
        outcome.errors += [f"{s.microservice}: {s.error}" for s in outcome.scalings if s.error]
        return outcome

    def plan_in_force(self, state: ClusterState, containers: Containers) -> ConnectionPlan:
        """The plan that an earlier controller left; empty if there is none, or none that can be read."""
        import httpx2

        try:
            specs = self._connections.found()
        except httpx2.HTTPError:
            return ConnectionPlan()
        return _read_plan(specs, state, containers, self._info)

    def _silent_agents(self, plans: Applied) -> dict[str, str]:
        """Nodes whose agent has not reported for as long as a plan lives: its rules are out, or there is no agent."""
        self._unheard = {node: self._unheard.get(node, 0) + 1 for node in plans.pending}
        limit_s, interval_s = self._config.safety.plan_expires_s, self._config.control_interval_s
        silent = [node for node, rounds in self._unheard.items() if rounds * interval_s > limit_s]
        return {node: f"has not applied a plan for {limit_s:g} s" for node in silent}


def _read_plan(specs: list[PlanSpec], state: ClusterState, containers: Containers, info: ClusterInfo) -> ConnectionPlan:
    ids = {pod.uid: identity for identity, pod in containers.by_id().items()}
    by_ip = {pod.ip: identity for identity, pod in containers.by_id().items() if pod.ready}
    microservice_of = dict(zip(containers.id.tolist(), containers.microservice.tolist(), strict=True))
    services = {port.service: info.microservices.index(port.microservice) for port in state.ports}
    pairs = {pair: index for index, pair in enumerate(info.pairs)}
    found: dict[int, dict[tuple[int, int], float]] = {}
    for pod in (pod for spec in specs for pod in spec.pods):
        up = ids.get(pod.uid)
        if up is None:
            continue
        for rules in pod.services:
            pair = pairs.get((microservice_of[up], services.get(rules.service, -1)))
            if pair is None:
                continue
            for target in rules.targets:
                if (down := by_ip.get(str(target.ip))) is not None:
                    found.setdefault(pair, {})[up, down] = target.weight
    return ConnectionPlan(
        {
            pair: Links(
                np.array([up for up, _ in links], np.int64),
                np.array([down for _, down in links], np.int64),
                np.array(list(links.values())),
            )
            for pair, links in found.items()
        }
    )
