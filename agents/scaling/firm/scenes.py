"""The random scenarios of one application that FIRM is trained and evaluated in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from imbres_gym.config import ConfigError, available
from imbres_gym.scenario import Scenario, load_scenario
from imbres_gym.sim.interference import Level, MovingInterference
from imbres_gym.sim.workload import ConstantWorkload, Step, StepWorkload

SLAS = ("strict", "slack")
"""Scenarios of a shipped application whose SLA is taken."""
MOST_RPS = 240.0
"""In the event engine, an application with a larger usual workload is trained as a scale model: at this many
requests/s, with as much smaller a limit of replicas. Load per container, and so everything that the agent sees, stays
the same; it takes a fifth of the time for 1200 requests/s, and leaves more containers than the ten that each is
connected to."""
LOAD = (0.25, 1.0)
"""Range of the workload as a share of the usual one (estimate)."""
CONTROL_S = 10.0
"""Time between connection plans [s]; twice the usual one, which changes little and saves a third of the time."""
LEVEL_S = 300.0
"""Time until the workload jumps to another level [s] (estimate)."""
INTERFERENCE = (0.0, 0.7)
"""Range of a host's mean utilisation by best-effort jobs; 0.7 is the most that Imbres has (section 6.1)."""
START = (0.15, 0.5)
"""Range of the CPU use that a microservice's containers at the start are meant for: from far too many to too few
(estimate). Each draws its own, or else nothing would tell which of them was too hot."""


def bases_of(scenario: Scenario) -> tuple[Scenario, ...]:
    """The scenarios that scenes vary: those of a shipped application with its SLAs, else the scenario itself."""
    shipped = [f"{scenario.application.name}/high-{sla}" for sla in SLAS]
    if not set(shipped) <= set(available("scenarios")):
        return (scenario,)
    return tuple(load_scenario(name, engine=scenario.engine) for name in shipped)


def random_scene(bases: Sequence[Scenario], seed: int, duration_s: float, **overrides: Any) -> Scenario:
    """A scenario of an application with a workload that jumps, interference that moves, and a random start.

    Args:
        bases: of one application, see `bases_of`; one of them is varied.
        seed: of everything that is drawn.
        duration_s: length of an episode [s].
        overrides: further keys of the scenario.

    Raises:
        ConfigError: the workload of a base is not constant.
    """
    rng = np.random.default_rng(seed)
    base = bases[int(rng.integers(len(bases)))]
    if not isinstance(base.workload, ConstantWorkload):
        raise ConfigError(f"{base.name}: workload: FIRM is trained at shares of a constant workload")
    usual_rps = base.workload.rps if base.engine == "fluid" else min(base.workload.rps, MOST_RPS)
    scale = usual_rps / base.workload.rps
    times = np.arange(0.0, duration_s, LEVEL_S)
    levels = rng.uniform(*LOAD, len(times))
    uses = rng.uniform(*INTERFERENCE, base.hosts.count)
    return load_scenario(
        base,
        workload=StepWorkload(
            steps=[Step(at_s=t, rps=usual_rps * x) for t, x in zip(times.tolist(), levels.tolist(), strict=True)]
        ),
        interference=MovingInterference(
            levels=[Level(cpu=u, memory_bandwidth=u, network=u, llc=u) for u in uses.tolist()]
        ),
        max_replicas=round(base.max_replicas * scale),
        control_interval_s=CONTROL_S,
        initial_replicas=_start(base, usual_rps * float(levels[0]), scale, rng),
        duration=duration_s,
        **overrides,
    )


def _start(base: Scenario, rps: float, scale: float, rng: np.random.Generator) -> dict[str, int]:
    """Containers of each microservice for its own random use at `rps`.

    Where the hosts lack cores or memory for all of them, as much smaller a part of what each has above the least.
    """
    application = base.application
    counts: dict[str, int] = {}
    for name, demand_ms in application.cpu_ms_per_request().items():
        quota = application.cores_of(name)
        used = rps * demand_ms / 1000.0 / quota
        idle = application.microservices[name].idle_cores / quota
        needed = np.ceil(used / max(rng.uniform(*START) - idle, 0.05))
        counts[name] = int(np.clip(needed, base.min_replicas, round(base.max_replicas * scale)))
    least = base.min_replicas
    size = np.array([[application.cores_of(name), application.memory_of(name)] for name in counts])
    room = base.hosts.count * np.array([base.hosts.cores, base.hosts.memory_mb]) - least * size.sum(axis=0)
    more = size.T @ (np.array(list(counts.values())) - least)
    share = min(1.0, float(np.min(room / np.maximum(more, 1e-9))))
    return {name: least + int(share * (count - least)) for name, count in counts.items()}
