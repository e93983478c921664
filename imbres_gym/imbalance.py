"""How unevenly load and latency are spread, from the telemetry of one interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled
from imbres_gym.telemetry import Telemetry

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def load_variance(telemetry: Telemetry) -> float:
    """Imbalance of load [-], >= 0: variance of the requests/s per ready container over its mean squared.

    Mean over the microservices that received load; 0 if none did. Arrivals at random leave some of it under an even
    split, too: about 1 / (requests per container in the interval).
    """
    t = telemetry
    return float(variance_of_load(t.container_microservice, t.container_rps, t.container_ready, len(t.ready)))


def latency_cv(telemetry: Telemetry) -> float:
    """Imbalance of latency [-], >= 0: standard deviation of the own latency over hosts, divided by its mean.

    Only hosts where spans ended count. Mean over the microservices that have some; 0 if none has.
    """
    return float(cv_of_latency(telemetry.samples, telemetry.own_latency_ms))


@compiled
def variance_of_load(microservice: Ints, rps: Floats, ready: NDArray[np.bool_], groups: int) -> float:
    """As `load_variance`, of the containers and the number of microservices."""
    return float(_mean_of_known(_squared_cv(microservice, rps, ready, groups)))


@compiled
def cv_of_latency(samples: Ints, latency_ms: Floats) -> float:
    """As `latency_cv`, of these arrays."""
    groups, n_hosts = samples.shape
    row = np.arange(groups * n_hosts) // n_hosts
    fresh = (samples > 0).reshape(groups * n_hosts)
    values = latency_ms.copy().reshape(groups * n_hosts)
    return float(_mean_of_known(np.sqrt(_squared_cv(row, values, fresh, groups))))


@compiled
def _squared_cv(group: Ints, values: Floats, counted: NDArray[np.bool_], groups: int) -> Floats:
    """(groups,) variance over mean squared; NaN without values or with mean 0."""
    count, mean, square = np.zeros(groups), np.zeros(groups), np.zeros(groups)
    for i in range(len(values)):
        if counted[i]:
            count[group[i]] += 1.0
            mean[group[i]] += values[i]
    mean /= count
    for i in range(len(values)):
        if counted[i]:
            square[group[i]] += (values[i] - mean[group[i]]) ** 2
    return np.where(mean > 0.0, square / count / mean**2, np.nan)


@compiled
def _mean_of_known(values: Floats) -> float:
    total, known = 0.0, 0
    for value in values:
        if not np.isnan(value):
            total += value
            known += 1
    return total / known if known else 0.0
