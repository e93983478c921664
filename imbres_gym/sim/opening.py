"""What a seed decides before an episode begins: the same for every engine, so that they see the same hosts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.scenario import Scenario

TICK_S = 1.0
"""The workload changes, and containers come and go, at multiples of this time [s]."""

INTERFERENCE_STEP_S = 5.0
"""Resolution of the path of interference [s]."""


@dataclass(frozen=True)
class Opening:
    """What a seed decides.

    Attributes:
        rng: of placement.
        interference: (steps, H, 4) path of the hosts' utilisation by best-effort jobs [0-1].
        kernel_seed: of what the engine itself draws.
    """

    rng: np.random.Generator
    interference: NDArray[np.float64]
    kernel_seed: int


def open_episode(scenario: Scenario, seed: int) -> Opening:
    """Three independent sources of randomness of one seed."""
    placement, interference, kernel = np.random.SeedSequence(seed).spawn(3)
    steps = int(scenario.duration / INTERFERENCE_STEP_S) + 2
    path = scenario.interference.path(
        scenario.hosts.count, steps, INTERFERENCE_STEP_S, np.random.default_rng(interference)
    )
    return Opening(np.random.default_rng(placement), path, int(kernel.generate_state(1, np.uint64)[0]))
