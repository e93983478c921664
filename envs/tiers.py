"""The tiers that an environment's agent does not decide: policies from the scenario, by import path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.plan import Balancer, ConnectionPlan, project_proportions
from imbres_gym.policy import load_object
from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import ClusterInfo

Tier = Literal["load", "connections", "scaling"]
TIERS: tuple[Tier, ...] = ("load", "connections", "scaling")


class FilledTiers:
    """One policy for each tier that is filled.

    Args:
        scenario: names the policies.
        decided: tiers that the agent decides; they get no policy.
        overrides: tier -> import path that replaces the scenario's, or None.

    Raises:
        ConfigError: an override names a tier that the agent decides, or a policy cannot be built.
    """

    def __init__(self, scenario: Scenario, decided: frozenset[Tier], overrides: Mapping[Tier, str | None]) -> None:
        self._policies: dict[Tier, Any] = {}
        for tier in TIERS:
            path = overrides[tier]
            if tier not in decided:
                self._policies[tier] = _make_policy(path or getattr(scenario.policies, tier), tier)
            elif path is not None:
                raise ConfigError(f"{tier}: this environment's action decides it, so {path!r} would never be asked")

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """A new episode starts."""
        for policy in self._policies.values():
            policy.reset(info, seed)

    def propose(self, observation: Observation) -> NDArray[np.float64]:
        """Load proportions (M, H) of the load policy, projected to legal ones."""
        proposed = np.asarray(self._policies["load"].propose(observation), np.float64)
        return project_proportions(proposed, observation["ready"])[0]

    @property
    def balancer(self) -> Balancer | None:
        """The balancer that the load policy names, None if it names none or if the agent decides that tier."""
        balancer: Balancer | None = getattr(self._policies.get("load"), "balancer", None)
        return balancer

    def connect(self, observation: Observation, proportions: NDArray[np.float64]) -> ConnectionPlan:
        """The plan of the connection policy for these load proportions (M, H)."""
        plan: ConnectionPlan = self._policies["connections"].connect(observation, proportions)
        return plan

    def scale(self, observation: Observation, info: ClusterInfo) -> NDArray[np.int64]:
        """Replica counts (M,) of the scaling policy, clipped to `min_replicas..max_replicas`."""
        wanted = np.asarray(self._policies["scaling"].scale(observation), np.int64)
        return np.clip(wanted, info.min_replicas, info.max_replicas)

    @property
    def placement(self) -> NDArray[np.int64] | None:
        """Wanted containers per host (M, H) of the scaling policy, valid after `scale`; None if it leaves them open."""
        placement: NDArray[np.int64] | None = getattr(self._policies.get("scaling"), "placement", None)
        return placement


def _make_policy(path: str, tier: Tier) -> Any:
    factory = load_object(path, tier)
    try:
        return factory()
    except TypeError as error:
        raise ConfigError(f"{tier}: {path!r} cannot be built without arguments: {error}") from error
