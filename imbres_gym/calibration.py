"""Fitting an application to measurements of one's own: CPU demand and CPU sensitivity of each microservice.

The response surfaces of the fluid engine predict the own latency of a container from its load and the interference;
what a microservice brings along are the demand of its operations and its sensitivity. Both are chosen so that the
predicted latencies come near the measured ones, in the sense of least squares of the logarithm, robust against
outliers. The result is an application file that a scenario of either engine can name.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from imbres_gym.application import Application
from imbres_gym.config import ConfigError, cell_number, nearest
from imbres_gym.sim.interference import RESOURCES

Floats = NDArray[np.float64]

REQUIRED = ("microservice", "load_rps", "cpu")
LATENCIES = ("mean_ms", "p95_ms")
COLUMNS = (*REQUIRED, *RESOURCES[1:], *LATENCIES)

DEMAND_RANGE = (0.1, 10.0)
"""Factor on the CPU demand that is searched: a choice, far beyond any error of measurement."""
SENSITIVITY_RANGE = (0.0, 5.0)
"""Likewise; 0 is a microservice that interference does not touch."""
STARTS = ((1.0, 1.0), (2.0, 0.5), (0.5, 2.0))
"""Demand factors and sensitivities from which the search begins; the best end counts."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """What was measured of one microservice (n points).

    Attributes:
        load_rps: (n,) calls/s of one container.
        interference: (n, 4) utilisation of its host by all that runs there [0-1].
        mean_ms, p95_ms: (n,) own latency; NaN where it was not measured.
    """

    load_rps: Floats
    interference: Floats
    mean_ms: Floats
    p95_ms: Floats


@dataclass(frozen=True)
class Fit:
    """How well one microservice could be fitted.

    Attributes:
        microservice: name.
        points: measured latencies.
        demand: factor on the CPU demand of its operations.
        sensitivity: to CPU interference.
        before, after: typical error of a latency as a factor, exp of the median of |ln(predicted / measured)|.
    """

    microservice: str
    points: int
    demand: float
    sensitivity: float
    before: float
    after: float

    @property
    def doubt(self) -> str:
        """Why not to trust it; empty if nothing speaks against it."""
        found = []
        if self.after > self.before:
            found.append("its typical error is no smaller than before")
        for name, value, (low, high) in (
            ("demand", self.demand, DEMAND_RANGE),
            ("sensitivity", self.sensitivity, SENSITIVITY_RANGE),
        ):
            if value <= low * 1.01 + 1e-6 or value >= high * 0.99:
                found.append(f"its {name} is at the edge of what was searched, so that these points do not tell it")
        return "; ".join(found)


def read_measurements(file: Path, application: Application) -> dict[str, Measurements]:
    """Read a CSV file of measurements.

    Args:
        file: columns microservice, load_rps (calls/s of one container), cpu (utilisation of the host by all that runs
            there, 0-1), mean_ms or p95_ms or both (own latency), and optionally memory_bandwidth, network and llc.
        application: whose microservices are measured.

    Raises:
        ConfigError: no such file, a column is missing or unknown, a microservice is unknown, or a value is no number
            in range; says which line and column.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file")
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        columns = list(reader.fieldnames or [])
        _check_columns(file, columns)
        rows: dict[str, list[list[float]]] = {}
        for row in reader:
            where = f"{file}:{reader.line_num}"
            if None in row:
                raise ConfigError(f"{where}: more values than columns")
            name = row["microservice"]
            if name not in application.microservices:
                hint = nearest(str(name), application.microservices)
                raise ConfigError(f"{where}: microservice: {application.name} has no {name!r}; {hint}")
            numbers = [_number(row, "load_rps", where, math.inf, columns)]
            numbers += [_number(row, resource, where, 1.0, columns) for resource in RESOURCES]
            numbers += [_number(row, latency, where, math.inf, columns, math.nan) for latency in LATENCIES]
            if all(math.isnan(value) or value <= 0.0 for value in numbers[-2:]):
                raise ConfigError(f"{where}: neither mean_ms nor p95_ms is above 0; leave the line out")
            rows.setdefault(str(name), []).append(numbers)
    if not rows:
        raise ConfigError(f"{file}: no rows; write one for each measured point")
    tables = {name: np.array(values) for name, values in rows.items()}
    return {n: Measurements(t[:, 0], t[:, 1:5], _positive(t[:, 5]), _positive(t[:, 6])) for n, t in tables.items()}


def fit(application: Application, measured: dict[str, Measurements]) -> tuple[Application, list[Fit]]:
    """The application with the measured microservices fitted, and how well that went."""
    fits = [_fit_one(application, name, points) for name, points in measured.items()]
    return _calibrated(application, fits), fits


def save_application(application: Application, source: Path, out: Path) -> None:
    """Write a fitted application as a YAML file that a scenario can name."""
    data = application.model_dump(mode="json", exclude_defaults=True)
    head = f"# {application.name}, calibrated by imbres-gym calibrate on {source.name}.\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _check_columns(file: Path, columns: list[str]) -> None:
    for name in columns:
        if name not in COLUMNS:
            raise ConfigError(f"{file}: unknown column {name!r}; {nearest(name, COLUMNS)}")
    for name in REQUIRED:
        if name not in columns:
            raise ConfigError(f"{file}: the column {name!r} is missing")
    if not set(LATENCIES) & set(columns):
        raise ConfigError(f"{file}: there is no column with latencies: mean_ms, p95_ms or both")


def _number(
    row: dict[str, str | None], column: str, where: str, most: float, columns: list[str], absent: float = 0.0
) -> float:
    """The number in one cell; `absent` if there is no such column, or for a latency an empty cell."""
    text = row.get(column)
    if column not in columns or (text == "" and math.isnan(absent)):
        return absent
    return cell_number(text, where, column, most)


def _positive(values: Floats) -> Floats:
    return np.where(values > 0.0, values, np.nan)


def _fit_one(application: Application, name: str, points: Measurements) -> Fit:
    """Search the demand and the sensitivity of one microservice."""
    from scipy.optimize import least_squares

    low = [math.log(DEMAND_RANGE[0]), SENSITIVITY_RANGE[0]]
    high = [math.log(DEMAND_RANGE[1]), SENSITIVITY_RANGE[1]]

    def residuals(x: Floats) -> Floats:
        return _log_ratios(_with(application, name, math.exp(x[0]), float(x[1])), name, points)

    now = application.microservices[name].sensitivity.cpu
    ends = [
        least_squares(
            residuals,
            np.clip((math.log(demand), factor * now), low, high),
            bounds=(low, high),
            loss="soft_l1",
            diff_step=[1e-3, 1e-3],
        )
        for demand, factor in STARTS
    ]
    best = min(ends, key=lambda end: float(end.cost))
    before = residuals(np.array([0.0, now]))
    after = residuals(best.x)
    return Fit(
        microservice=name,
        points=len(after),
        demand=math.exp(float(best.x[0])),
        sensitivity=float(best.x[1]),
        before=math.exp(float(np.median(np.abs(before)))),
        after=math.exp(float(np.median(np.abs(after)))),
    )


def _log_ratios(application: Application, name: str, points: Measurements) -> Floats:
    """ln(predicted / measured) of every measured latency."""
    from imbres_gym.sim.fluid.predict import own_latency

    predicted = np.concatenate(own_latency(application, name, points.load_rps, points.interference))
    measured = np.concatenate([points.mean_ms, points.p95_ms])
    known = ~np.isnan(measured)
    ratios: Floats = np.log(np.maximum(predicted[known], 1e-6) / measured[known])
    return ratios


def _with(application: Application, name: str, demand: float, sensitivity: float, source: str = "") -> Application:
    """The application with one microservice changed."""
    service = application.microservices[name]
    note = {"source": source} if source else {}
    operations = {
        key: operation.model_copy(update={"cpu_ms": operation.cpu_ms * demand, **note})
        for key, operation in service.operations.items()
    }
    changed = service.model_copy(
        update={"operations": operations, "sensitivity": service.sensitivity.model_copy(update={"cpu": sensitivity})}
    )
    return application.model_copy(update={"microservices": {**application.microservices, name: changed}})


def _calibrated(application: Application, fits: list[Fit]) -> Application:
    for one in fits:
        note = f"calibrated: {one.demand:.3g} times the demand before; error a factor of {one.after:.3g}"
        application = _with(application, one.microservice, one.demand, one.sensitivity, note)
    return application
