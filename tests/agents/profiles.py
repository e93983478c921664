"""A small made-up profile: a chain of two microservices whose latency is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from imbres_gym.profiling.graph import CallNode, ClassGraph
from imbres_gym.profiling.profile import Cost, Points, Profile

LEVELS = (0.1, 0.3, 0.5, 0.7)
LOADS = tuple(float(x) for x in np.linspace(0.2, 2.0, 10))


def make_profile(latency_ms: Callable[[float, float, float], float], **changes: Any) -> Profile:
    """Profile of `service-0`, which calls `service-1`; both get 10 requests/s per container at load 1.

    Args:
        latency_ms: own p95 at (requests/s per container, CPU interference, memory-bandwidth interference).
        changes: other fields of the profile.
    """
    points = list(itertools.product(LEVELS, LEVELS, LOADS))
    p95 = tuple((latency_ms(10.0 * load, cpu, bandwidth),) * 2 for cpu, bandwidth, load in points)
    values: dict[str, Any] = {
        "version": "test",
        "application": "made-up",
        "scenario": "made-up",
        "microservices": ("service-0", "service-1"),
        "classes": ("read",),
        "reference_rps": 100.0,
        "replicas": (10, 10),
        "network": 0.3,
        "connections": "full",
        "seeds": (1,),
        "graphs": {
            "read": ClassGraph(
                tree=CallNode(microservice="service-0", stages=((CallNode(microservice="service-1"),),)),
                calls={"service-0": 1.0, "service-1": 1.0},
            )
        },
        "points": Points(
            grid=tuple((cpu, bandwidth) for cpu, bandwidth, _ in points),
            load=tuple(load for *_, load in points),
            cpu=tuple(cpu for cpu, *_ in points),
            memory_bandwidth=tuple(bandwidth for _, bandwidth, _ in points),
            load_rps=tuple((10.0 * load,) * 2 for *_, load in points),
            p95_ms=p95,
            mean_ms=tuple((a / 2.0, b / 2.0) for a, b in p95),
            utilisation=tuple((0.05 + 0.42 * load,) * 2 for *_, load in points),
            e2e_p95_ms=tuple((a + b,) for a, b in p95),
            answered=((1.0,),) * len(points),
        ),
        "cost": Cost(runs=160, simulated_hours=1.0, container_hours=20.0, cpu_s=1.0),
    }
    return Profile(**{**values, **changes})
