"""The scaling environment: the action decides the replica counts."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from envs.actions import read_replicas
from envs.base import MicroserviceEnv
from envs.spaces import replicas_space
from imbres_gym.plan import Plan
from imbres_gym.telemetry import ClusterInfo


class ScalingEnv(MicroserviceEnv):
    """Replica counts of a microservice cluster; policies decide load proportions and connections.

    ## Description
    The agent decides how many containers each microservice has, so that the SLA is met with few of them (Imbres,
    ASPLOS '25, section 4.3). One step is one scaling interval (60 s by default: 12 control intervals), in which the
    policies of the other tiers act at every control interval. M microservices.

    ## Action Space
    `MultiDiscrete` of shape (M,) from `min_replicas` to `max_replicas`: wanted containers per microservice. An illegal
    action never raises: a count out of range is clipped; an array of the wrong shape or type is ignored, and the
    counts in force stay. `info["illegal_actions"]["replicas"]` counts the clipped counts, or 1 for an ignored action.

    ## Observation Space
    The `Dict` that `envs.cluster.ClusterEnv` lists with units and bounds, at the end of the scaling interval;
    `window_p95_ms` covers the whole of it, the other measurements its last control interval.

    ## Rewards
    The weighted sum of `resource`, `violation`, `churn` and `latency` as in `envs.cluster.ClusterEnv`: `resource` and
    `churn` are means over the control intervals of the step, `violation` and `latency` cover all its requests.

    ## Starting State
    The scenario's initial containers, after one scaling interval under the policies of the other tiers, so that the
    first decision sees a whole interval. Without a seed the first episode takes the scenario's seed; later ones draw
    theirs from `np_random`.

    ## Episode End
    Never terminated. Truncated when the time reaches the scenario's duration, if need be within a scaling interval.

    ## Arguments
    `gym.make("imbres_gym/Scaling-v0", scenario="social-network/high-strict", engine=None, render_mode=None,
    duration=None, scaling_interval_s=None, reward_weights=None, load=None, connections=None)`; see
    `envs.base.MicroserviceEnv`. `load` and `connections` are import paths of policies; by default the scenario's.

    ## Version History
    * v0: first version.
    """

    decides = frozenset({"scaling"})

    def _make_action_space(self, info: ClusterInfo) -> spaces.MultiDiscrete:
        return replicas_space(info)

    def _read(self, action: Any) -> tuple[Plan, dict[str, int]]:
        replicas, counts = read_replicas(action, self.cluster_info)
        return Plan(replicas=replicas), {"replicas": counts}

    def _complete(self, decided: Plan) -> Plan:
        observation = self.observation
        proportions = self._tiers.propose(observation)
        connections = self._tiers.connect(observation, proportions)
        return Plan(proportions, connections, decided.replicas, self._tiers.balancer)

    def _step_ends(self) -> bool:
        return self._scaling_due()

    def _settle(self) -> None:
        while not (self._scaling_due() or self._truncated()):
            self._advance(self._complete(Plan()))
