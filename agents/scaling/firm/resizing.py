"""What FIRM's agent sees, does and is paid for (OSDI '20, section 3.4), for container counts instead of limits.

FIRM resizes the limits of one container: CPU, memory bandwidth, LLC, disk and network. Where the containers of a
microservice are all alike, as in Imbres' evaluation, their number is what is resized: one action instead of five, and a
count out of the largest count in the place of a limit. One actor serves all microservices ("one for all").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.application import Application
from imbres_gym.observation import Observation
from imbres_gym.profiling.graph import RARE
from imbres_gym.telemetry import ClusterInfo

CLASSES = 3
"""Request classes whose share the state has, as in FIRM's released code; of an application with more, the first."""
RESOURCES = (0, 1, 2)
"""Columns of `interference` that count: CPU, memory bandwidth, network."""
MIX = slice(2, 2 + CLASSES)
"""Where the state has the shares of the request classes."""
STATE_SIZE = 1 + 1 + CLASSES + len(RESOURCES) + 1
MOST_CHANGE = 2.0
"""A workload change above this counts as this; the state is bounded so."""
ALPHA = 0.5
"""Weight of the SLO against utilisation in the reward (FIRM's released code, up to a factor of two)."""
LARGEST_STEP = 0.5
"""Share of its containers that a microservice can gain or lose in one decision (estimate)."""
Served = NDArray[np.bool_]
"""(M, C) whether the requests of a class call a microservice: what traces tell, stored in the bundle."""
SERVED = "served-classes"
"""Its name there."""


def served_classes(application: Application) -> Served:
    """Which microservices the requests of a class call, rare calls left out."""
    calls = [application.calls_of_class(name) for name in application.class_names]
    return np.array([[of.get(name, 0.0) > RARE for of in calls] for name in application.microservice_names])


def slo_maintenance(observation: Observation, served: Served) -> NDArray[np.float64]:
    """FIRM's SM of each microservice, (M,) float64 [0-1]: SLA over latency, at most 1.

    The latency is the p95 in the last scaling interval of the worst class among those whose requests call the
    microservice: of a violation that it cannot cause it neither hears, nor is it charged for it. (FIRM has 1 for
    instances that are no culprits; here the classes decide that, since the support vector machine is wrong too often.)
    """
    latency_ms = np.where(served, observation["window_p95_ms"].astype(np.float64), 0.0).max(axis=1)
    sla_ms = float(observation["sla_ms"][0])
    return np.asarray(np.minimum(1.0, np.divide(sla_ms, latency_ms, out=np.ones(len(served)), where=latency_ms > 0.0)))


def utilisation(observation: Observation) -> NDArray[np.float64]:
    """FIRM's RU, (M, 3) float64 [0-1]: use of CPU, memory bandwidth and network by a microservice's containers.

    CPU is their use of their quota. Of the other two nobody measures what one container uses, and none has a limit: it
    is the utilisation of their hosts. All are means over the ready containers, 0 without one.
    """
    ready = observation["ready"].astype(np.float64)
    weight = ready / np.maximum(ready.sum(axis=1, keepdims=True), 1.0)
    cpu = (weight * observation["cpu_utilisation"]).sum(axis=1)
    hosts = weight @ observation["interference"][:, RESOURCES[1:]].astype(np.float64)
    return np.asarray(np.minimum(np.column_stack([cpu, hosts]), 1.0), np.float64)


def states(observation: Observation, previous_rps: float, info: ClusterInfo, served: Served) -> NDArray[np.float32]:
    """What the actor sees of each microservice.

    Args:
        observation: at the end of a scaling interval.
        previous_rps: end-user requests/s at the last decision; 0 if there was none.
        info: the cluster.
        served: classes of each microservice.

    Returns:
        (M, 9) float32: SM [0-1]; WC, requests/s over those at the last decision [0-2]; RC, shares of the first three
        request classes [0-1]; RU, `utilisation` [0-1]; containers wanted over `max_replicas` [0-1].
    """
    rps = observation["workload_rps"].astype(np.float64)
    total = float(rps.sum())
    change = min(total / previous_rps, MOST_CHANGE) if previous_rps > 0.0 else 1.0
    mix = np.zeros(CLASSES)
    mix[: len(rps)] = rps[:CLASSES] / max(total, 1e-9)
    count = len(info.microservices)
    shared = np.tile([change, *mix], (count, 1))
    size = observation["wanted"][:, None] / info.max_replicas
    maintenance = slo_maintenance(observation, served)[:, None]
    return np.hstack([maintenance, shared, utilisation(observation), size]).astype(np.float32)


def resized(
    containers: NDArray[np.integer], actions: NDArray[np.floating], bounds: tuple[int, int]
) -> NDArray[np.int64]:
    """Containers C after actions a in [-1, 1]: C (1 + a / 2), rounded.

    The step is a share of at least two containers: with half of one, a single container could never become two.

    Args:
        containers: (M,) wanted now.
        actions: (M,) of the actor.
        bounds: smallest and largest count.
    """
    step = LARGEST_STEP * actions.astype(np.float64) * np.maximum(containers, 2)
    return np.asarray(np.clip(containers + np.rint(step).astype(np.int64), *bounds), np.int64)


def rewards(observation: Observation, served: Served) -> NDArray[np.float64]:
    """(M,) float64 [0-3]: alpha SM |R| + (1 - alpha) sum RU, at the end of the interval that an action led to."""
    used = utilisation(observation)
    return np.asarray(ALPHA * slo_maintenance(observation, served) * len(RESOURCES) + (1.0 - ALPHA) * used.sum(axis=1))
