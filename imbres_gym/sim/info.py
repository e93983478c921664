"""What an episode of a simulated cluster fixes."""

from __future__ import annotations

from typing import Any

import numpy as np

from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import ClusterInfo


def cluster_info(scenario: Scenario) -> ClusterInfo:
    """What is fixed for an episode of a scenario."""
    app = scenario.application
    names = app.microservice_names
    cores = np.array([app.cores_of(name) for name in names])
    room = scenario.hosts.count * scenario.hosts.cores / float(cores.min())
    start: dict[str, Any] = scenario.replicas_at_start()
    return ClusterInfo(
        microservices=names,
        hosts=tuple(f"host-{h}" for h in range(scenario.hosts.count)),
        classes=app.class_names,
        pairs=app.pairs,
        entries=app.entries,
        called=app.called,
        cores=cores,
        memory_mb=np.array([app.memory_of(name) for name in names]),
        host_cores=scenario.hosts.cores,
        sla_ms=scenario.sla_ms,
        control_interval_s=scenario.control_interval_s,
        scaling_interval_s=scenario.scaling_interval_s,
        min_replicas=scenario.min_replicas,
        max_replicas=scenario.max_replicas,
        max_containers=int(min(len(names) * scenario.max_replicas, room)),
        connections_per_container=scenario.connections_per_container,
        startup_s=scenario.startup_s,
        initial_replicas=np.array([start[name] for name in names], np.int64),
    )
