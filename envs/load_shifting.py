"""The load-shifting environment: the action decides the load proportions."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from envs.actions import read_proportions
from envs.base import MicroserviceEnv
from envs.spaces import proportions_space
from imbres_gym.plan import Plan
from imbres_gym.telemetry import ClusterInfo


class LoadShiftingEnv(MicroserviceEnv):
    """Load proportions of a microservice cluster; policies decide connections and replica counts.

    ## Description
    Hosts are disturbed by best-effort jobs, each to another degree, so that containers of one microservice differ in
    latency. The agent shifts load between hosts (Imbres, ASPLOS '25, section 4.1). One step is one control interval
    (5 s by default). M microservices, H hosts.

    ## Action Space
    `Box(0, 1, (M, H), float32)`: the share of a microservice's load that goes to a host; the containers there share it
    alike. An illegal action never raises: NaN, infinite and negative entries and hosts without a ready container
    become 0, a row is divided by its sum, an empty row becomes balanced; an array of the wrong shape or type is
    ignored, and the proportions in force stay. `info["illegal_actions"]["proportions"]` counts the rows that had to
    be changed, or 1 for an ignored action.

    ## Observation Space
    The `Dict` that `envs.cluster.ClusterEnv` lists with units and bounds.

    ## Rewards
    The weighted sum of `resource`, `violation`, `churn` and `latency` as in `envs.cluster.ClusterEnv`. The agent moves
    `violation`; the others depend on the policies of the other tiers.

    ## Starting State
    The scenario's initial containers, balanced load, full connection, after one control interval. Without a seed the
    first episode takes the scenario's seed; later ones draw theirs from `np_random`.

    ## Episode End
    Never terminated. Truncated when the time reaches the scenario's duration.

    ## Arguments
    `gym.make("imbres_gym/LoadShifting-v0", scenario="social-network/high-strict", engine=None, render_mode=None,
    duration=None, scaling_interval_s=None, reward_weights=None, connections=None, scaling=None)`; see
    `envs.base.MicroserviceEnv`. `connections` and `scaling` are import paths of policies; by default the scenario's.

    ## Version History
    * v0: first version.
    """

    decides = frozenset({"load"})

    def _make_action_space(self, info: ClusterInfo) -> spaces.Box:
        return proportions_space(info)

    def _read(self, action: Any) -> tuple[Plan, dict[str, int]]:
        proportions, rows = read_proportions(action, self._meter.measured.ready)
        return Plan(proportions=proportions), {"proportions": rows}

    def _complete(self, decided: Plan) -> Plan:
        in_force = self._meter.measured.proportions.copy() if decided.proportions is None else decided.proportions
        observation = self.observation
        connections = self._tiers.connect(observation, in_force)
        replicas = self._tiers.scale(observation, self.cluster_info)
        return Plan(decided.proportions, connections, replicas, placement=self._tiers.placement)
