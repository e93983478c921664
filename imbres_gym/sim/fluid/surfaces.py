"""Response surfaces: what a CPU burst loses to a container's quota, as measured on the event engine's container model.

Four numbers without a unit decide it, so that one table serves every microservice of every application:

- *load*: CPU demand of all calls as a share of the quota (beyond what an idle container uses);
- *calls*: how many calls fill the quota of a period, `quota * E[w] / E[w^2]`, w the demand of a lump of work: the
  smaller it is, the more a period's demand varies;
- *slack*: share of the quota that idle CPUs keep while one burst runs (large in small containers);
- *share*: demand of the burst itself, in units of a call that `calls` counts.

Losses are counted in CFS periods. *Loss* is all that a burst waits, the wait before it gets CPU included, which delays
the end user; *interruption* is the part after that, which is in the span's own latency. The file is made by
`scripts/fit_latency_surfaces.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imbres_gym.config import ConfigError

Floats = NDArray[np.float64]

LEVELS = np.array([0.9, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002])
"""Chances that a tabulated quantile is exceeded."""

FILE = Path(__file__).with_name("surfaces.npz")

INTERRUPTED = slice(len(LEVELS), 2 * len(LEVELS))
MEAN_LOST, MEAN_INTERRUPTED, DEVIATION, INFLATION = range(2 * len(LEVELS), 2 * len(LEVELS) + 4)
"""Places in the last axis of `Surfaces.table`, after the quantiles (at `LEVELS`) of what a burst loses in all."""
WIDTH = 2 * len(LEVELS) + 4


@dataclass(frozen=True, eq=False)
class Surfaces:
    """The table; in between it is linear in the cube root of a loss, in `load`, `slack` and the logarithm of the rest.

    Attributes:
        loads: (L,) load, rising.
        calls: (C,) calls, evenly spaced in their logarithm.
        slacks: (S,) slack, rising.
        shares: (A,) share, rising.
        table: (S, A, L, C, WIDTH) float32, cube roots of what the places above say.
        error: (4,) relative error between the points: of the mean loss, median and 90th percentile; of the 95th
            percentile of loss and demand, likewise.
    """

    loads: Floats
    calls: Floats
    slacks: Floats
    shares: Floats
    table: NDArray[np.float32]
    error: Floats

    @classmethod
    def from_statistics(
        cls,
        loads: Floats,
        calls: Floats,
        slacks: Floats,
        shares: Floats,
        statistics: Floats,
        error: Floats,
    ) -> Surfaces:
        """A table of plain statistics [periods], made monotone: more load never means less loss."""
        rising = np.maximum.accumulate(statistics, axis=2)
        return cls(loads, calls, slacks, shares, np.cbrt(rising).astype(np.float32), error)

    def with_slack(self, slack: float) -> NDArray[np.float32]:
        """(A, L, C, WIDTH) the table at one slack."""
        position = float(np.interp(slack, self.slacks, np.arange(len(self.slacks))))
        low = min(int(position), len(self.slacks) - 2)
        part = np.float32(position - low)
        return np.asarray(self.table[low] * (1 - part) + self.table[low + 1] * part)

    def at(self, load: float, calls: float, slack: float, share: float) -> Floats:
        """(WIDTH,) losses [periods] at one point; outside of the table that of its edge."""
        values = self.with_slack(slack).astype(np.float64)
        for axis, value in (
            (np.log(self.shares), np.log(share)),
            (self.loads, load),
            (np.log(self.calls), np.log(calls)),
        ):
            position = float(np.interp(value, axis, np.arange(len(axis))))
            low = min(int(position), len(axis) - 2)
            values = values[low] + (values[low + 1] - values[low]) * (position - low)
        return np.asarray(values**3)


def save_surfaces(surfaces: Surfaces, path: Path) -> None:
    """Write the table as an npz file."""
    arrays = {name: getattr(surfaces, name) for name in ("loads", "calls", "slacks", "shares", "error")}
    np.savez_compressed(path, **arrays, table=surfaces.table.astype(np.float16))


def load_surfaces(path: Path = FILE) -> Surfaces:
    """Read a table.

    Raises:
        ConfigError: the file is missing or is no table of surfaces.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            axes = {name: file[name] for name in ("loads", "calls", "slacks", "shares", "error")}
            return Surfaces(**axes, table=file["table"].astype(np.float32))
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{path}: not a file of response surfaces ({error})") from None
