"""The connection environment: the action decides the connection plan."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from envs.actions import read_connections
from envs.base import MicroserviceEnv
from envs.spaces import connections_space
from imbres_gym.plan import Plan
from imbres_gym.telemetry import ClusterInfo


class ConnectionsEnv(MicroserviceEnv):
    """Connection plan of a microservice cluster; policies decide load proportions and replica counts.

    ## Description
    Upstream containers hold connections to some of the downstream containers only; which ones, and with which weight,
    decides how evenly interference is felt along the call tree (Imbres, ASPLOS '25, section 4.2). One step is one
    control interval (5 s by default). E edges, P pairs of microservices that call each other.

    ## Action Space
    `Graph(Discrete(1), Box(0, 1, (1,), float32))`, see `imbres_gym.action`:

    | field | shape, dtype | meaning |
    |---|---|---|
    | `nodes` | (n,) int64 | 0 for each used row of `observation["containers"]` |
    | `edge_links` | (E, 2) integer | row of the upstream and of the downstream container |
    | `edges` | (E, 1) float32 | share of the upstream container's calls [0-1]; only their ratio matters |

    A pair without edges is fully connected; so is an upstream container without edges in its pair. An illegal action
    never raises: an edge whose container is unknown, whose microservices are no pair, or whose weight is NaN,
    infinite or negative is left out; a graph of the wrong shape or type is ignored, and the plan in force stays.
    `info["illegal_actions"]["connections"]` counts the edges left out, or 1 for an ignored action.

    ## Observation Space
    The `Dict` that `envs.cluster.ClusterEnv` lists with units and bounds.

    ## Rewards
    The weighted sum of `resource`, `violation`, `churn` and `latency` as in `envs.cluster.ClusterEnv`. The agent moves
    `violation` and `churn`.

    ## Starting State
    The scenario's initial containers, balanced load, full connection, after one control interval. Without a seed the
    first episode takes the scenario's seed; later ones draw theirs from `np_random`.

    ## Episode End
    Never terminated. Truncated when the time reaches the scenario's duration.

    ## Arguments
    `gym.make("imbres_gym/Connections-v0", scenario="social-network/high-strict", engine=None, render_mode=None,
    duration=None, scaling_interval_s=None, reward_weights=None, load=None, scaling=None)`; see
    `envs.base.MicroserviceEnv`. `load` and `scaling` are import paths of policies; by default the scenario's.

    ## Version History
    * v0: first version.
    """

    decides = frozenset({"connections"})

    def _make_action_space(self, info: ClusterInfo) -> spaces.Graph:
        return connections_space()

    def _read(self, action: Any) -> tuple[Plan, dict[str, int]]:
        connections, edges = read_connections(action, self._meter.look, self.cluster_info)
        return Plan(connections=connections), {"connections": edges}

    def _complete(self, decided: Plan) -> Plan:
        observation = self.observation
        proportions = self._tiers.propose(observation)
        replicas = self._tiers.scale(observation, self.cluster_info)
        return Plan(proportions, decided.connections, replicas, self._tiers.balancer, self._tiers.placement)
