"""Workload: the rate of end-user requests over time, as a Poisson process of piecewise constant rate."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from imbres_gym.config import ConfigError, StrictModel

Rate = Annotated[float, Field(ge=0.0)]


class ConstantWorkload(StrictModel):
    """The same rate all the time."""

    kind: Literal["constant"] = "constant"
    rps: Rate

    def rate(self, time_s: float) -> float:
        """Requests per second at `time_s`."""
        return self.rps


class Step(StrictModel):
    """From `at_s` on, the rate is `rps`."""

    at_s: float = Field(ge=0.0)
    rps: Rate


class StepWorkload(StrictModel):
    """A rate that jumps at given times; the first step starts at 0."""

    kind: Literal["step"] = "step"
    steps: list[Step] = Field(min_length=1)

    @field_validator("steps")
    @classmethod
    def _in_order(cls, steps: list[Step]) -> list[Step]:
        times = [step.at_s for step in steps]
        if times[0] != 0.0 or any(later <= earlier for earlier, later in itertools.pairwise(times)):
            raise ValueError(f"the steps must start at at_s: 0 and come in the order of time, each once; got {times}")
        return steps

    def rate(self, time_s: float) -> float:
        """Requests per second at `time_s`."""
        return next(step.rps for step in reversed(self.steps) if step.at_s <= time_s)


class DiurnalWorkload(StrictModel):
    """A sine: `mean_rps + amplitude_rps * sin(2 pi (t + phase_s) / period_s)`, never below 0."""

    kind: Literal["diurnal"] = "diurnal"
    mean_rps: Rate
    amplitude_rps: Rate
    period_s: float = Field(gt=0.0)
    phase_s: float = 0.0

    def rate(self, time_s: float) -> float:
        """Requests per second at `time_s`."""
        angle = 2.0 * math.pi * (time_s + self.phase_s) / self.period_s
        return max(0.0, self.mean_rps + self.amplitude_rps * math.sin(angle))


class ReplayWorkload(StrictModel):
    """A recorded rate: a text file with one number of requests/s per line, repeated at its end."""

    kind: Literal["replay"] = "replay"
    file: Path
    """Relative paths start from the folder of the scenario file."""
    step_s: float = Field(default=1.0, gt=0.0)
    """Time between lines [s]."""
    scale: float = Field(default=1.0, gt=0.0)

    """What the recorded rates are multiplied by."""

    _values: tuple[float, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _read(self) -> ReplayWorkload:
        self._values = read_series(self.file)
        return self

    def rate(self, time_s: float) -> float:
        """Requests per second at `time_s`."""
        return self._values[int(time_s / self.step_s) % len(self._values)] * self.scale


Workload = Annotated[
    ConstantWorkload | StepWorkload | DiurnalWorkload | ReplayWorkload,
    Field(discriminator="kind"),
]


def read_series(file: Path) -> tuple[float, ...]:
    """Read one non-negative number per line; empty lines and lines that start with # do not count.

    Raises:
        ConfigError: no such file, or a line that is not a non-negative number (says which).
    """
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file (workload.file)")
    values: list[float] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            value = float(text)
        except ValueError:
            raise ConfigError(f"{file}:{number}: {text!r} is not a number of requests/s") from None
        if not math.isfinite(value) or value < 0.0:
            raise ConfigError(f"{file}:{number}: {text!r} must be a finite rate >= 0")
        values.append(value)
    if not values:
        raise ConfigError(f"{file}: no values; write one number of requests/s per line")
    return tuple(values)
