"""The joint environment: the action decides all three tiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from envs.actions import read_balancer, read_connections, read_placement, read_proportions, read_replicas
from envs.base import MicroserviceEnv
from envs.spaces import connections_space, proportions_space, replicas_space
from imbres_gym.plan import Plan
from imbres_gym.telemetry import ClusterInfo

REQUIRED = ("proportions", "connections", "replicas")
"""Keys of the action space; an action may have "balancer" and "placement" as well."""


class ClusterEnv(MicroserviceEnv):
    """Load proportions, connection plan and replica counts of a microservice cluster, decided together.

    ## Description
    A microservice application runs on hosts that best-effort jobs disturb, each to another degree. End users send
    requests; each walks through the call tree of its class. The agent decides which share of each microservice's load
    goes to which host, which container talks to which, and how many containers there are, so that the 95th
    percentile of the E2E latency meets the SLA with few containers. This is the whole control problem of Imbres
    (ASPLOS '25, sections 3 and 4). One step is one control interval (5 s by default).

    M microservices, H hosts, C request classes, P pairs of microservices that call each other, N rows of the
    container table.

    ## Action Space
    A `Dict`:

    | key | space | meaning |
    |---|---|---|
    | `proportions` | `Box(0, 1, (M, H), float32)` | share of a microservice's load per host |
    | `connections` | `Graph(Discrete(1), Box(0, 1, (1,), float32))` | who calls whom, with which weight |
    | `replicas` | `MultiDiscrete`, (M,), `min_replicas..max_replicas` | wanted containers |

    An action may have two parts more, which no learned agent needs and `action_space` therefore does not have:

    | key | type | meaning |
    |---|---|---|
    | `balancer` | `imbres_gym.plan.Balancer` or its name | who picks the container of each call |
    | `placement` | (M, H) integers, `0..max_replicas` | wanted containers per host, see `imbres_gym.plan.Plan` |

    The containers of a microservice on one host share its load there alike. Of the graph, `edge_links` (E, 2) are the
    rows of upstream and downstream container in `observation["containers"]` and `edges` (E, 1) the shares of the
    upstream container's calls; a pair without edges is fully connected. Replica counts and placement take effect
    when the time is a multiple of the scaling interval (60 s by default); in the steps between they have no effect.

    An illegal action never raises. Proportions are projected: NaN, infinite and negative entries and hosts without a
    ready container become 0, a row is divided by its sum, an empty row becomes balanced. Illegal edges (unknown
    container, no pair, weight NaN, infinite or negative) are left out. Replica counts and placement are
    clipped. A part that is missing or of the wrong shape or type, and an unknown balancer, is ignored: what is in
    force stays. `info["illegal_actions"]` counts, for the step, the rows, edges and counts concerned, or 1 for an
    ignored part (0 for an optional one that is missing); "total" counts them since the reset.

    ## Observation Space
    A `Dict` of arrays, the same for every environment and for a live cluster. The upper bounds: L is the end of the
    episode plus one scaling interval [s]; R is `max_replicas`; Q is the cores of a host over the quota of a container.

    | key | shape, dtype | unit | bounds | meaning |
    |---|---|---|---|---|
    | `time_s` | (1,) float32 | s | 0, L | since the start of the episode |
    | `own_latency_ms` | (M, H) float32 | ms | 0, 1000 L | mean latency of spans without their children |
    | `own_p95_ms` | (M, H) float32 | ms | 0, 1000 L | its 95th percentile |
    | `load_rps` | (M, H) float32 | 1/s | 0, max | calls that arrived |
    | `samples` | (M, H) int64 | - | 0, max | spans that ended; 0: the latency is an old one |
    | `age_s` | (M, H) float32 | s | 0, L | age of the latency |
    | `cpu_utilisation` | (M, H) float32 | - | 0, Q | CPU use of the containers over their quota |
    | `microservice_p95_ms` | (M,) float32 | ms | 0, 1000 L | p95 of own latency over all containers |
    | `ready`, `pending` | (M, H) int64 | - | 0, R | containers |
    | `wanted` | (M,) int64 | - | 0, R | replicas wanted |
    | `interference` | (H, 4) float32 | - | 0, 1 | utilisation of CPU, memory bandwidth, network, LLC |
    | `e2e_ms` | (C, 4) float32 | ms | 0, 1000 L | mean, p50, p95, p99 of requests without failure |
    | `window_p95_ms` | (C,) float32 | ms | 0, 1000 L | p95 of the last scaling interval, 0 if < 20 requests |
    | `requests`, `failed` | (C,) int64 | - | 0, max | requests that ended; that failed |
    | `workload_rps` | (C,) float32 | 1/s | 0, max | end-user requests that arrived |
    | `sla_ms` | (1,) float32 | ms | 0, 1000 L | target of the p95 |
    | `proportions` | (M, H) float32 | - | 0, 1 | load proportions in force |
    | `connections` | (P,) int64 | - | 0, N^2 | open connections |
    | `pair_share` | (P, H, H) float32 | - | 0, 1 | traffic from host to host; (P, 0, 0) if above 10^6 |
    | `containers` | (N, 4) int64 | - | -1, max | id, microservice, host, ready; unused rows are -1 |
    | `container_usage` | (N, 3) float32 | 1/s, -, s | 0, max | load, CPU over quota, age; unused rows are 0 |
    | `critical_path` | (M, 3) float32 | - | 0, -1, 0; 1, 1, max | share of paths, RI, CI; 0 without traces |

    ## Rewards
    The weighted sum of four parts, each at most 0; `info["reward_parts"]` has them without their weights.

    | part | weight | bounds | meaning |
    |---|---|---|---|
    | `resource` | 1 | -(R x sum of quotas) / initial quota, 0 | allocated CPU quota over the initial one |
    | `violation` | 10 | -1, 0 | share of requests slower than the SLA or failed beyond 5 %, of the worst class |
    | `churn` | 0.1 | -1, 0 | share of connections opened and closed |
    | `latency` | 0 | -1, 0 | p95 / (p95 + SLA), p95 of all requests of the step |

    ## Starting State
    The scenario's initial containers, balanced load, full connection, after one control interval. Without a seed the
    first episode takes the scenario's seed; later ones draw theirs from `np_random`.

    ## Episode End
    Never terminated. Truncated when the time reaches the scenario's duration.

    ## Information
    `info` has `metrics` (flat floats, see `envs.metrics`), `reward_parts`, `illegal_actions` and `time_s` [s].
    `env.unwrapped.telemetry` is the `imbres_gym.telemetry.Telemetry` of the last control interval.

    ## Arguments
    `gym.make("imbres_gym/Cluster-v0", scenario="social-network/high-strict", engine=None, render_mode=None,
    duration=None, scaling_interval_s=None, reward_weights=None)`; see `envs.base.MicroserviceEnv`. Since the agent
    decides every tier, it takes no policies.

    ## Version History
    * v0: first version.
    """

    decides = frozenset({"load", "connections", "scaling"})

    def _make_action_space(self, info: ClusterInfo) -> spaces.Dict:
        return spaces.Dict(
            {
                "proportions": proportions_space(info),
                "connections": connections_space(),
                "replicas": replicas_space(info),
            }
        )

    def _read(self, action: Any) -> tuple[Plan, dict[str, int]]:
        if not isinstance(action, Mapping):
            return Plan(), dict.fromkeys(REQUIRED, 1)
        info = self.cluster_info
        proportions, rows = read_proportions(action.get("proportions"), self._meter.measured.ready)
        connections, edges = read_connections(action.get("connections"), self._meter.look, info)
        replicas, counts = read_replicas(action.get("replicas"), info)
        balancer, unknown = read_balancer(action["balancer"]) if "balancer" in action else (None, 0)
        placement, entries = read_placement(action["placement"], info) if "placement" in action else (None, 0)
        illegal = {
            "proportions": rows,
            "connections": edges,
            "replicas": counts,
            "balancer": unknown,
            "placement": entries,
        }
        return Plan(proportions, connections, replicas, balancer, placement), illegal

    def _complete(self, decided: Plan) -> Plan:
        return decided
