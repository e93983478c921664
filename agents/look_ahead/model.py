"""A model of the cluster that an observation shows: the fluid engine, set to what was measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.observation import Observation
from imbres_gym.plan import Plan, project_proportions
from imbres_gym.scenario import Scenario
from imbres_gym.sim.fluid.cluster import FluidCluster
from imbres_gym.sim.interference import ConstantInterference
from imbres_gym.sim.workload import ConstantWorkload
from imbres_gym.telemetry import ClusterInfo

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

P95 = 2
"""Column of `Telemetry.e2e_ms`."""


class Model:
    """What would happen to the cluster of one observation, under one replica count or another.

    It knows the application (call trees, CPU demands) as its owner does, and of the rest what was measured: who runs
    where, how busy the hosts are, how many requests come. Best-effort jobs and workload stay as they are; connections
    are full, as the connection tier will link the containers that come.

    Args:
        scenario: of the cluster; its workload, interference and engine are not looked at.
        info: of the same cluster.
        observation: the present.
        measured_s: how long an answer is simulated after new containers are ready [s].
    """

    def __init__(self, scenario: Scenario, info: ClusterInfo, observation: Observation, measured_s: float) -> None:
        rps = float(observation["workload_rps"].sum())
        fixed = {
            "workload": ConstantWorkload(rps=rps),
            "interference": ConstantInterference(levels=scenario.interference.levels),
            "trace_sampling": 0.0,
            "engine": "fluid",
        }
        self._cluster = FluidCluster(scenario.model_copy(update=fixed))
        self._settle_s = scenario.startup_s + info.control_interval_s
        self._measured_s = measured_s
        self._cluster.reset(0)
        ids, microservice, host, ready = observation["containers"][observation["containers"][:, 0] >= 0].T
        self._cluster.assume(ids, microservice, host, ready == 1, background_of(observation, info))
        proportions, _ = project_proportions(observation["proportions"].astype(np.float64), observation["ready"])
        self._cluster.apply(Plan(proportions=proportions))

    def p95_ms(self, replicas: Ints | None = None) -> float:
        """Predicted p95 of the E2E latency of the slowest request class [ms].

        The same chance for every question, so that differences are those of the plans.

        Args:
            replicas: (M,) wanted containers; None leaves those that there are.
        """
        cluster = self._cluster.clone()
        if replicas is not None:
            cluster.apply(Plan(replicas=replicas))
        cluster.advance(self._settle_s)
        return float(cluster.advance(self._measured_s).e2e_ms[:, P95].max())


def background_of(observation: Observation, info: ClusterInfo) -> Floats:
    """(H, 4) utilisation of the hosts by others than our containers [0-1]: of the CPU what ours do not use."""
    rows = observation["containers"][:, 0] >= 0
    microservice, host = observation["containers"][rows, 1], observation["containers"][rows, 2]
    used = observation["container_usage"][rows, 1] * info.cores[microservice]
    background = observation["interference"].astype(np.float64)
    background[:, 0] -= np.bincount(host, used, len(background)) / info.host_cores
    return np.clip(background, 0.0, 1.0)
