"""Telemetry that can be compared, as Gymnasium's environment checker compares every value of `info`."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from imbres_gym.telemetry import Telemetry


class ComparableTelemetry(Telemetry):
    """A `Telemetry` that equals another one if all their numbers are the same, bit for bit; NaN equals NaN."""

    @classmethod
    def of(cls, telemetry: Telemetry) -> ComparableTelemetry:
        """The same measurements, comparable; the arrays are shared."""
        return cls(**{field.name: getattr(telemetry, field.name) for field in fields(telemetry)})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Telemetry):
            return NotImplemented
        return all(_same(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    __hash__ = None  # type: ignore[assignment]


def _same(mine: object, theirs: object) -> bool:
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        return len(mine) == len(theirs) and all(map(_same, mine, theirs))
    if isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
        return mine.dtype == theirs.dtype and mine.shape == theirs.shape and mine.tobytes() == theirs.tobytes()
    return mine == theirs
