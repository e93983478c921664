"""Small applications and scenarios in code, with every effect that a closed form does not know switched off."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.application import Application, Call, ContainerSize, Microservice, Operation, RequestClass, Store
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.effects import Effects
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.interference import ConstantInterference, Level
from imbres_gym.sim.workload import ConstantWorkload, Workload
from imbres_gym.telemetry import Telemetry

NEVER_MS = 1e12
"""A deadline that no request reaches."""

PLENTY = 1_000_000
"""Workers or places in a queue that never run out."""


def neutral(**changes: Any) -> Effects:
    """Effects without delay, stretch, connection cost and quota losses, exponential times, and the given ones."""
    stretches = ("stretch_cpu", "stretch_memory_bandwidth", "stretch_llc")
    nothing = dict.fromkeys(("delay_ms", "preemption_per_ms", *stretches, "slack_ms", "wake_loss_ms"), 0.0)
    exponential = {"demand_shape": 1.0, "store_shape": 1.0}
    return Effects.model_validate({**nothing, **exponential, "connection_cost": 0.0, **changes})


def microservice(cpu_ms: float, cores: float = 1.0, demand_shape: float | None = None, **limits: Any) -> Microservice:
    """A microservice with the one operation "op"; unless given, it uses at most its quota and never rejects."""
    defaults = {"parallelism": max(1, int(cores)), "workers": PLENTY, "accept_queue": PLENTY}
    operations = {"op": Operation(cpu_ms=cpu_ms, demand_shape=demand_shape)}
    return Microservice(operations=operations, cores=cores, **{**defaults, **limits})


def call(target: str, *stages: list[Call], **how: Any) -> Call:
    """A call of the operation "op" of `target`."""
    return Call(call=f"{target}/op", stages=list(stages), **how)


def application(
    microservices: dict[str, Microservice],
    tree: Call,
    stores: dict[str, Store] | None = None,
    deadline_ms: float = NEVER_MS,
    **changes: Any,
) -> Application:
    """An application with the one request class "all"."""
    return Application(
        name="theory",
        container=ContainerSize(cores=1.0, memory_mb=1.0),
        microservices=microservices,
        stores=stores or {},
        request_classes={"all": RequestClass(share=1.0, tree=tree, deadline_ms=deadline_ms)},
        **{"hop_ms": 0.0, **changes},
    )


def scenario(
    app: Application,
    rps: float | Workload,
    replicas: dict[str, int] | int = 1,
    levels: list[Level] | None = None,
    hosts: Hosts | None = None,
    **changes: Any,
) -> Scenario:
    """A scenario on one large idle host, unless given otherwise."""
    counts = dict.fromkeys(app.microservice_names, replicas) if isinstance(replicas, int) else replicas
    return Scenario(
        application=app,
        hosts=hosts or Hosts(count=1, cores=1000.0, memory_mb=1e6),
        workload=ConstantWorkload(rps=rps) if isinstance(rps, int | float) else rps,
        interference=ConstantInterference(levels=levels or [Level(cpu=0.0)]),
        initial_replicas=counts,
        **{"sla_ms": 100.0, "effects": neutral(), **changes},
    )


def single(cpu_ms: float, rps: float, effects: Effects | None = None, **limits: Any) -> Scenario:
    """One container of one microservice that calls nothing."""
    service = microservice(cpu_ms, **limits)
    return scenario(application({"a": service}, call("a")), rps, effects=effects or neutral())


def intervals(scenario: Scenario, seconds: float, count: int, seed: int, warmup_s: float = 100.0) -> list[Telemetry]:
    """Telemetry of `count` intervals of `seconds` each, after a warm-up."""
    cluster = EventCluster(scenario)
    cluster.reset(seed)
    cluster.advance(warmup_s)
    return [cluster.advance(seconds) for _ in range(count)]


def totals(telemetries: list[Telemetry], rate: str) -> NDArray[np.int64]:
    """Sum over the intervals of a rate [1/s] ("load_rps", "workload_rps", "container_rps") as whole numbers."""
    counts: NDArray[np.int64] = np.rint(sum(getattr(t, rate) * t.interval_s for t in telemetries)).astype(np.int64)
    return counts
