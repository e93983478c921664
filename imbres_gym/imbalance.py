"""How unevenly load and latency are spread, from the telemetry of one interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imbres_gym.telemetry import Telemetry


def load_variance(telemetry: Telemetry) -> float:
    """Imbalance of load [-], >= 0: variance of the requests/s per ready container over its mean squared.

    Mean over the microservices that received load; 0 if none did. Arrivals at random leave some of it under an even
    split, too: about 1 / (requests per container in the interval).
    """
    values = []
    for microservice in range(len(telemetry.ready)):
        mine = (telemetry.container_microservice == microservice) & telemetry.container_ready
        values.append(_squared_cv(telemetry.container_rps[mine]))
    return _mean_of_known(values)


def latency_cv(telemetry: Telemetry) -> float:
    """Imbalance of latency [-], >= 0: standard deviation of the own latency over hosts, divided by its mean.

    Only hosts where spans ended count. Mean over the microservices that have some; 0 if none has.
    """
    values = [
        _squared_cv(row[fresh > 0]) for row, fresh in zip(telemetry.own_latency_ms, telemetry.samples, strict=True)
    ]
    return _mean_of_known([np.sqrt(value) for value in values])


def _squared_cv(values: NDArray[np.float64]) -> float:
    """Variance over mean squared; NaN without values or with mean 0."""
    if values.size == 0 or (mean := float(values.mean())) <= 0.0:
        return float("nan")
    return float(values.var()) / mean**2


def _mean_of_known(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else 0.0
