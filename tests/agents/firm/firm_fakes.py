"""A small application that FIRM can be trained on in no time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from imbres_gym.application import Application, Call, ContainerSize, Microservice, Operation, RequestClass
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.interference import ConstantInterference, Level
from imbres_gym.sim.workload import ConstantWorkload


def small_scene(bases: Sequence[Scenario], seed: int, duration_s: float, **overrides: Any) -> Scenario:
    """A front end that calls one other microservice, on two hosts; the load depends on the seed."""
    microservice = Microservice(operations={"get": Operation(cpu_ms=2.0)})
    small = Application(
        name="small",
        container=ContainerSize(cores=0.5, memory_mb=100.0),
        hop_ms=0.2,
        microservices={"front": microservice, "back": microservice},
        request_classes={
            "read": RequestClass(share=1.0, tree=Call(call="front/get", stages=[[Call(call="back/get")]]))
        },
    )
    settings: dict[str, Any] = {
        "application": small,
        "hosts": Hosts(count=2, cores=32.0, memory_mb=8000.0),
        "workload": ConstantWorkload(rps=float(np.random.default_rng(seed).uniform(20.0, 40.0))),
        "interference": ConstantInterference(levels=[Level(cpu=0.1), Level(cpu=0.6)]),
        "sla_ms": 20.0,
        "duration": duration_s,
        "max_replicas": 6,
        "engine": bases[0].engine if bases else "events",
    }
    return Scenario.model_validate(settings | overrides)
