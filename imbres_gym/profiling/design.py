"""Which experiments profile an application: the grid of Erms' offline profiling, on a scenario's cluster.

Erms (ASPLOS'23, artifact `offlineProfiling`): 4 levels of CPU x 4 of memory-bandwidth interference, the same on all
hosts; rising request rates up to past the knee, 40 s each; several repeats; a fixed deployment under balanced load.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from imbres_gym import __version__
from imbres_gym.config import ConfigError, nearest
from imbres_gym.evaluation.task import scenario_hash
from imbres_gym.scenario import Scenario, load_scenario

LEVELS = (0.1, 0.3, 0.5, 0.7)
"""Utilisation of a resource by best-effort jobs: the range of Imbres section 6.1 (0.10-0.70), in four equal steps."""
LOADS = tuple(float(x) for x in np.round(np.linspace(0.15, 1.35, 10), 4))
"""Request rates as multiples of the scenario's: 7 to 68 % of the quota without interference, up to 105 % with the most
of it, while Erms' knees lie at 22 to 50 %; ten of its up to twenty levels."""
REFERENCE_UTILISATION = 0.5
"""All microservices have the containers that are busy at this share of their quota at the scenario's rate."""
SETTLE_S, MEASURE_S = 5.0, 40.0
"""Time before and of a measurement [s]; Erms measures 40 s a point."""
SEEDS = (2000, 2001, 2002)
"""One per repeat; Erms repeats three to five times. Evaluation has the seeds 1000 and up, training 3000 and up."""
CONNECTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("agents.connections.full:FullConnections", {}),
    "random-10": ("agents.connections.random_k:RandomConnections", {"k": 10}),
}
"""Connection schemes that can be in force: import path of a connection policy and its options. Random subsets load the
containers of a microservice unequally, so that a profile holds for the scheme that it was measured under."""


@dataclass(frozen=True)
class Run:
    """One run of one point.

    Attributes:
        scenario: cluster, load and interference.
        connections: key of `CONNECTIONS`.
        seed: of the cluster and of the policy.
    """

    scenario: Scenario
    connections: str
    seed: int


@dataclass(frozen=True)
class Design:
    """All runs of a profiling.

    Attributes:
        scenario: as it was given: hosts, effects, application and workload.
        levels: CPU and memory-bandwidth utilisations of the grid [0-1].
        loads: multiples of the scenario's rate at its start.
        seeds: one per repeat.
        connections: key of `CONNECTIONS`.
    """

    scenario: Scenario
    levels: tuple[float, ...] = LEVELS
    loads: tuple[float, ...] = LOADS
    seeds: tuple[int, ...] = SEEDS
    connections: str = "full"

    @property
    def points(self) -> list[tuple[float, float, float]]:
        """CPU and memory-bandwidth utilisation and load of every point."""
        return list(itertools.product(self.levels, self.levels, self.loads))

    @cached_property
    def network(self) -> float:
        """Network utilisation by best-effort jobs [0-1]: the scenario's mean, since Erms' grid does not vary it."""
        return float(np.mean([level.network for level in self.scenario.interference.levels]))

    @property
    def reference_rps(self) -> float:
        """Rate that the loads are multiples of [1/s]."""
        return self.scenario.workload.rate(0.0)

    @cached_property
    def replicas(self) -> dict[str, int]:
        """Containers of each microservice."""
        changes = {"initial_utilisation": REFERENCE_UTILISATION, "initial_replicas": {}}
        return load_scenario(self.scenario, **changes).replicas_at_start()

    def run(self, point: tuple[float, float, float], seed: int) -> Run:
        """One repeat of a point; LLC goes with memory bandwidth, as a job that streams memory also fills the cache."""
        cpu, memory_bandwidth, load = point
        level = {"cpu": cpu, "memory_bandwidth": memory_bandwidth, "network": self.network, "llc": memory_bandwidth}
        scenario = load_scenario(
            self.scenario,
            workload={"kind": "constant", "rps": load * self.reference_rps},
            interference={"kind": "constant", "levels": [level]},
            initial_replicas=self.replicas,
            duration=SETTLE_S + MEASURE_S,
            control_interval_s=SETTLE_S,
            scaling_interval_s=SETTLE_S,
        )
        return Run(scenario, self.connections, seed)

    def runs(self) -> list[Run]:
        """Every run: points in the order of `points`, the repeats of a point one after another."""
        return [self.run(point, seed) for point in self.points for seed in self.seeds]

    def fingerprint(self) -> str:
        """Hash of everything that the measurements depend on."""
        scenario = scenario_hash(self.scenario, frozenset({"seed", "sla_ms"}))
        parts = [scenario, self.levels, self.loads, self.seeds, self.connections, SETTLE_S, MEASURE_S, __version__]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def design_for(reference: str, connections: str = "full") -> Design:
    """The design for an application (on its scenario `high-strict`) or for a scenario by name or YAML file.

    Args:
        reference: of the application or the scenario.
        connections: key of `CONNECTIONS`.

    Raises:
        ConfigError: there is no such application, scenario or connection scheme, or it has no workload.
    """
    if connections not in CONNECTIONS:
        raise ConfigError(f"--connections {connections}: unknown; {nearest(connections, CONNECTIONS)}")
    is_application = "/" not in reference and not reference.endswith((".yaml", ".yml"))
    scenario = load_scenario(f"{reference}/high-strict" if is_application else reference)
    if scenario.workload.rate(0.0) <= 0.0:
        raise ConfigError(f"{reference}: workload: its rate at the start is 0, so there is no rate to start from")
    return Design(scenario, connections=connections)
