"""What a live cluster fixes for an episode, and what must be right before anything is done to it."""

from __future__ import annotations

import numpy as np

from imbres_gym.live.config import LiveConfig
from imbres_gym.live.observer import ClusterState
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.interference import ConstantInterference, Level
from imbres_gym.sim.workload import ConstantWorkload
from imbres_gym.telemetry import ClusterInfo


def problems(config: LiveConfig, state: ClusterState) -> list[str]:
    """Why this application cannot be controlled as it is, one line each with a fix; empty if it can."""
    found: list[str] = []
    where = f"namespace {config.namespace!r}"
    label = f"imbres-gym.io/application={config.application.name}"
    if not state.nodes:
        found.append(f"no node may run the application; correct node_selector ({config.node_selector})")
    called = {config.application.microservice_names[down] for _, down in config.application.pairs}
    for name in config.application.microservice_names:
        workload = state.workloads.get(name)
        if workload is None:
            labels = f"{label} and imbres-gym.io/microservice={name}"
            found.append(f"{name}: no Deployment in {where} has the labels {labels}; deploy it, or label it")
            continue
        low, high = config.bounds_of(name)
        if not low <= workload.replicas <= high:
            found.append(
                f"{name}: has {workload.replicas} replicas, outside {low} to {high}; scale it, or change "
                f"min_replicas, max_replicas or replicas.{name}"
            )
        ports = [port for port in state.ports if port.microservice == name]
        if name in called and not any(port.cluster_ip for port in ports):
            why = "is headless, so that no rule can be written for it" if ports else f"is not in {where}"
            found.append(f"{name}: its Service {why}; give it a cluster IP and the labels of its Deployment")
    return found


def live_info(config: LiveConfig, state: ClusterState) -> ClusterInfo:
    """What is fixed for an episode; `problems` must be empty.

    The CPU quota and memory of a container are the limits of its Deployment, and where it has none, the application's.
    Nodes may differ in size; `host_cores` is that of the largest.
    """
    app = config.application
    names = app.microservice_names
    workloads = [state.workloads[name] for name in names]
    return ClusterInfo(
        microservices=names,
        hosts=tuple(node.name for node in state.nodes),
        classes=app.class_names,
        pairs=app.pairs,
        entries=app.entries,
        called=app.called,
        cores=np.array([w.cores or app.cores_of(w.microservice) for w in workloads]),
        memory_mb=np.array([w.memory_mb or app.memory_of(w.microservice) for w in workloads]),
        host_cores=max(node.cores for node in state.nodes),
        sla_ms=config.sla_ms,
        control_interval_s=config.control_interval_s,
        scaling_interval_s=config.scaling_interval_s,
        min_replicas=config.min_replicas,
        max_replicas=config.max_replicas,
        max_containers=len(names) * config.max_replicas,
        connections_per_container=config.connections_per_container,
        startup_s=config.startup_s,
        initial_replicas=np.array([w.replicas for w in workloads], np.int64),
    )


def live_scenario(config: LiveConfig, info: ClusterInfo, duration_s: float) -> Scenario:
    """The scenario that says of a live cluster what an environment and a report ask for.

    Its application, SLA, intervals and bounds are the real ones. Workload and interference are not known beforehand:
    nobody may simulate it. It is not validated as a whole, since a real cluster need not keep the simulator's rules:
    its nodes may be overcommitted.
    """
    names = info.microservices
    return Scenario.model_construct(
        name=f"live/{config.application.name}",
        description=f"live: {config.application.name} in namespace {config.namespace}",
        application=config.application,
        hosts=Hosts(count=len(info.hosts), cores=info.host_cores, memory_mb=float(info.memory_mb.sum())),
        workload=ConstantWorkload(rps=0.0),
        interference=ConstantInterference(levels=[Level(cpu=0.0)]),
        sla_ms=config.sla_ms,
        duration=duration_s,
        control_interval_s=config.control_interval_s,
        scaling_interval_s=config.scaling_interval_s,
        startup_s=config.startup_s,
        initial_replicas=dict(zip(names, info.initial_replicas.tolist(), strict=True)),
        min_replicas=config.min_replicas,
        max_replicas=config.max_replicas,
        connections_per_container=config.connections_per_container,
        seed=config.seed,
    )
