"""Interference: how much of each host's resources best-effort jobs use, over time.

Every process yields a path of utilisation, computed once at reset, so that time can be rewound without its help.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from imbres_gym.config import StrictModel

RESOURCES = ("cpu", "memory_bandwidth", "network", "llc")
"""Order of the last axis of every interference array."""

Utilisation = Annotated[float, Field(ge=0.0, le=1.0)]


class Level(StrictModel):
    """Utilisation of one host's resources by best-effort jobs [0-1]."""

    cpu: Utilisation
    memory_bandwidth: Utilisation = 0.0
    network: Utilisation = 0.0
    llc: Utilisation = 0.0

    def as_row(self) -> list[float]:
        """The four values in the order of `RESOURCES`."""
        return [self.cpu, self.memory_bandwidth, self.network, self.llc]


class ConstantInterference(StrictModel):
    """The same utilisation all the time; with fewer levels than hosts the levels repeat."""

    kind: Literal["constant"] = "constant"
    levels: list[Level] = Field(min_length=1)

    def path(self, n_hosts: int, n_steps: int, step_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Utilisation of shape (n_steps, n_hosts, 4) [0-1]."""
        return np.repeat(_rows(self.levels, n_hosts)[None], n_steps, axis=0)


class MovingInterference(StrictModel):
    """AR(1) around a level per host, with rare jumps, after Alibaba's machine statistics.

    Defaults: lag-1 autocorrelation 0.79 a minute, standard deviation 0.13, and 0.55 % of minutes with a jump of more
    than 0.30 (Alibaba cluster-trace-v2018 machine_usage, medians over 16 machines). How long a jump lasts is an
    estimate. The other resources move with the CPU (correlation 0.62 with the network in the same trace).
    """

    kind: Literal["moving"] = "moving"
    levels: list[Level] = Field(min_length=1)
    autocorrelation_per_minute: float = Field(default=0.79, ge=0.0, lt=1.0)
    deviation: float = Field(default=0.13, ge=0.0, le=0.5)
    jumps_per_minute: float = Field(default=0.0055, ge=0.0, le=1.0)
    jump: tuple[Utilisation, Utilisation] = (0.3, 0.7)
    """Smallest and largest jump of CPU utilisation."""
    jump_duration_s: float = Field(default=120.0, gt=0.0)
    """Mean duration of a jump [s]: estimate."""

    @model_validator(mode="after")
    def _ordered(self) -> MovingInterference:
        if self.jump[0] > self.jump[1]:
            raise ValueError("jump: the smallest must come before the largest")
        return self

    def path(self, n_hosts: int, n_steps: int, step_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Utilisation of shape (n_steps, n_hosts, 4) [0-1]."""
        base = _rows(self.levels, n_hosts)
        phi = self.autocorrelation_per_minute ** (step_s / 60.0)
        noise = rng.normal(0.0, self.deviation * np.sqrt(1.0 - phi**2), size=(n_steps, n_hosts))
        jump_starts = rng.random((n_steps, n_hosts)) < self.jumps_per_minute * step_s / 60.0
        jump_sizes = rng.uniform(*self.jump, size=(n_steps, n_hosts))
        jump_lengths = rng.exponential(self.jump_duration_s, size=(n_steps, n_hosts))
        wander = rng.normal(0.0, self.deviation, size=n_hosts)
        jump_end = np.zeros(n_hosts)
        jump_size = np.zeros(n_hosts)
        path = np.empty((n_steps, n_hosts, len(RESOURCES)))
        for step in range(n_steps):
            now = step * step_s
            starts = jump_starts[step]
            jump_end = np.where(starts, now + jump_lengths[step], jump_end)
            jump_size = np.where(starts, jump_sizes[step], jump_size)
            shift = wander + np.where(now < jump_end, jump_size, 0.0)
            path[step] = np.clip(base + shift[:, None] * (base > 0.0), 0.0, 1.0)
            wander = phi * wander + noise[step]
        return path


Interference = Annotated[ConstantInterference | MovingInterference, Field(discriminator="kind")]


def _rows(levels: list[Level], n_hosts: int) -> NDArray[np.float64]:
    """Levels as an array (n_hosts, 4), repeated over the hosts."""
    return np.array([levels[host % len(levels)].as_row() for host in range(n_hosts)])
