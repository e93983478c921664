"""The random scenarios of one application that FIRM is trained and evaluated in."""

from __future__ import annotations

from typing import Any

import numpy as np

from imbres_gym.scenario import Scenario, load_scenario
from imbres_gym.sim.interference import Level, MovingInterference
from imbres_gym.sim.workload import ConstantWorkload, Step, StepWorkload

SLAS = ("strict", "slack")
"""Scenarios of the application whose SLA is taken."""
LOAD = (0.25, 1.0)
"""Range of the workload as a share of the application's usual one (estimate)."""
LEVEL_S = 600.0
"""Time until the workload jumps to another level [s] (estimate)."""
INTERFERENCE = (0.0, 0.7)
"""Range of a host's mean utilisation by best-effort jobs; 0.7 is the most that Imbres has (section 6.1)."""
START = (0.2, 0.6)
"""Range of the CPU use that the containers at the start are meant for: from far too many to too few (estimate)."""


def random_scene(application: str, seed: int, duration_s: float, **overrides: Any) -> Scenario:
    """A scenario of an application with a workload that jumps, interference that moves, and a random start.

    Args:
        application: its name in `configs/scenarios/`.
        seed: of everything that is drawn.
        duration_s: length of an episode [s].
        overrides: further keys of the scenario.
    """
    rng = np.random.default_rng(seed)
    base = load_scenario(f"{application}/high-{rng.choice(SLAS)}")
    assert isinstance(base.workload, ConstantWorkload)
    usual_rps = base.workload.rps
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
        initial_utilisation=float(rng.uniform(*START)),
        duration=duration_s,
        **overrides,
    )
