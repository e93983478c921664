"""Interference: how much of each host's resources best-effort jobs use, over time.

Every process yields a path of utilisation, computed once at reset, so that time can be rewound without its help.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator

from imbres_gym.config import ConfigError, StrictModel, cell_number, key_error, nearest

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


Record: TypeAlias = tuple[tuple[float, Level], ...]
"""Times [s] and levels of one recorded host, in the order of time."""


JUMP = (0.3, 0.7)
"""Smallest and largest jump of utilisation: what counts as one, and from 10 % to 80 % within a minute (Imbres section
2.1)."""
JUMP_DURATION_S = 120.0
"""Mean duration of a jump [s]: estimate."""


class ConstantInterference(StrictModel):
    """The same utilisation all the time; with fewer levels than hosts the levels repeat."""

    kind: Literal["constant"] = "constant"
    levels: list[Level] = Field(min_length=1)

    def path(self, n_hosts: int, n_steps: int, step_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Utilisation of shape (n_steps, n_hosts, 4) [0-1]."""
        return np.repeat(_rows(self.levels, n_hosts)[None], n_steps, axis=0)


class MovingInterference(StrictModel):
    """Two AR(1) processes around a level per host and resource, with rare jumps, after Alibaba's machine statistics.

    The defaults are those of 14 machines of Alibaba's cluster-trace-v2018 over 8 days (`docs/alibaba.md`; 100,002 rows
    of machine_usage, minute by minute): within a machine a standard deviation of 0.129, of whose variance 67 % changes
    over hours; changes of more than 0.30 in 0.56 % of the minutes, half of them beginnings of jumps, whose variance is
    taken from that of the fast process; a correlation of 0.62 between CPU and network. That memory bandwidth and LLC
    move like the network is an estimate. A jump is a best-effort job that arrives: it adds to every resource alike
    (estimate). A resource whose level is 0 stays at 0. What would leave [0, 1] is cut off, so that the mean of a host
    near either end is nearer to the middle than its level.
    """

    kind: Literal["moving"] = "moving"
    levels: list[Level] = Field(min_length=1)
    autocorrelation_per_minute: float = Field(default=0.712, ge=0.0, lt=1.0)
    deviation: float = Field(default=0.063, ge=0.0, le=0.5)
    """Standard deviation of the fast AR(1) process [utilisation, 0-1]."""
    slow_autocorrelation_per_minute: float = Field(default=0.9951, ge=0.0, lt=1.0)
    """Of a second AR(1) process that is added to the first: what changes over hours."""
    slow_deviation: float = Field(default=0.106, ge=0.0, le=0.5)
    """Standard deviation of the second process [utilisation, 0-1]."""
    correlation: float = Field(default=0.62, ge=0.0, le=1.0)
    """Correlation of each other resource's AR(1) process with that of the CPU of the same host."""
    jumps_per_minute: float = Field(default=0.00281, ge=0.0, le=1.0)
    """Rate at which jumps begin on a host; one that begins during another takes its place."""
    jump: tuple[Utilisation, Utilisation] = JUMP
    """Smallest and largest jump of utilisation, drawn uniformly."""
    jump_duration_s: float = Field(default=JUMP_DURATION_S, gt=0.0)
    """Mean duration of a jump [s]."""

    @model_validator(mode="after")
    def _ordered(self) -> MovingInterference:
        if self.jump[0] > self.jump[1]:
            raise key_error("jump", f"{list(self.jump)}: write the smallest before the largest")
        return self

    def path(self, n_hosts: int, n_steps: int, step_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Utilisation of shape (n_steps, n_hosts, 4) [0-1]."""
        base = _rows(self.levels, n_hosts)
        shift = self._wander(n_hosts, n_steps, step_s, rng, self.autocorrelation_per_minute, self.deviation)
        shift += self._jumps(n_hosts, n_steps, step_s, rng)[:, :, None]
        if self.slow_deviation > 0.0:
            slow = self.slow_autocorrelation_per_minute, self.slow_deviation
            shift += self._wander(n_hosts, n_steps, step_s, rng, *slow)
        path: NDArray[np.float64] = np.clip(base + shift * (base > 0.0), 0.0, 1.0)
        return path

    def _wander(
        self,
        n_hosts: int,
        n_steps: int,
        step_s: float,
        rng: np.random.Generator,
        autocorrelation_per_minute: float,
        deviation: float,
    ) -> NDArray[np.float64]:
        """An AR(1) part of every resource, (n_steps, n_hosts, 4), stationary from the first step on."""
        phi = autocorrelation_per_minute ** (step_s / 60.0)
        noise = rng.normal(0.0, deviation, size=(n_steps, n_hosts, len(RESOURCES)))
        noise[:, :, 1:] *= np.sqrt(1.0 - self.correlation**2)
        noise[:, :, 1:] += self.correlation * noise[:, :, :1]
        noise[1:] *= np.sqrt(1.0 - phi**2)
        for step in range(1, n_steps):
            noise[step] += phi * noise[step - 1]
        return noise

    def _jumps(self, n_hosts: int, n_steps: int, step_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """What the jumps add, (n_steps, n_hosts)."""
        begins = rng.random((n_steps, n_hosts)) < -np.expm1(-self.jumps_per_minute * step_s / 60.0)
        sizes = rng.uniform(*self.jump, size=(n_steps, n_hosts))
        lengths = rng.exponential(self.jump_duration_s, size=(n_steps, n_hosts))
        added = np.zeros((n_steps, n_hosts))
        for host in range(n_hosts):
            for step in np.flatnonzero(begins[:, host]):
                added[step:, host] = 0.0
                added[step : step + int(np.ceil(lengths[step, host] / step_s)), host] = sizes[step, host]
        return added


class ReplayInterference(StrictModel):
    """A recorded path: a CSV file with the columns `time_s,host,cpu` and, if known, the other resources.

    Each row holds until the host's next one; before its first row a host has that row's values, and after the last time
    in the file the record starts again. With fewer recorded hosts than hosts, the records repeat.
    """

    kind: Literal["replay"] = "replay"
    file: Path
    """Relative paths start from the folder of the scenario file."""

    _records: tuple[Record, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _read(self) -> ReplayInterference:
        self._records = read_records(self.file)
        return self

    @property
    def levels(self) -> list[Level]:
        """Mean of the rows of each recorded host."""
        means = [np.mean([level.as_row() for _, level in record], axis=0) for record in self._records]
        return [Level(**dict(zip(RESOURCES, mean.tolist(), strict=True))) for mean in means]

    def path(self, n_hosts: int, n_steps: int, step_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Utilisation of shape (n_steps, n_hosts, 4) [0-1]."""
        length = max(record[-1][0] for record in self._records)
        now = np.arange(n_steps) * step_s
        now = now % length if length > 0.0 else now
        path = np.empty((n_steps, n_hosts, len(RESOURCES)))
        for host in range(n_hosts):
            record = self._records[host % len(self._records)]
            row = np.searchsorted([time for time, _ in record], now, side="right") - 1
            path[:, host] = np.array([level.as_row() for _, level in record])[np.maximum(row, 0)]
        return path


def read_records(file: Path) -> tuple[Record, ...]:
    """Read recorded interference; hosts in the order of their first rows, rows in the order of time.

    Args:
        file: CSV with the columns time_s, host, cpu and optionally memory_bandwidth, network and llc (0 if absent).

    Raises:
        ConfigError: no such file, a column is missing or unknown, or a value is not a number in range (says which).
    """
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file (interference.file)")
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        columns = list(reader.fieldnames or [])
        for name in columns:
            if name not in {"time_s", "host", *RESOURCES}:
                raise ConfigError(f"{file}: unknown column {name!r}; {nearest(name, ('time_s', 'host', *RESOURCES))}")
        for name in ("time_s", "host", "cpu"):
            if name not in columns:
                raise ConfigError(f"{file}: the column {name!r} is missing")
        hosts: dict[str, list[tuple[float, Level]]] = {}
        for row in reader:
            where = f"{file}:{reader.line_num}"
            level = Level(**{name: cell_number(row[name], where, name, 1.0) for name in RESOURCES if name in columns})
            record = hosts.setdefault(str(row["host"]), [])
            record.append((cell_number(row["time_s"], where, "time_s", math.inf), level))
            if len(record) > 1 and record[-1][0] <= record[-2][0]:
                raise ConfigError(f"{where}: time_s: {row['time_s']!r} is not after the host's row before")
    if not hosts:
        raise ConfigError(f"{file}: no rows; write at least one for each host")
    return tuple(tuple(record) for record in hosts.values())


Interference = Annotated[
    ConstantInterference | MovingInterference | ReplayInterference,
    Field(discriminator="kind"),
]


def _rows(levels: list[Level], n_hosts: int) -> NDArray[np.float64]:
    """Levels as an array (n_hosts, 4), repeated over the hosts."""
    return np.array([levels[host % len(levels)].as_row() for host in range(n_hosts)])
