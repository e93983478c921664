"""Statistics of own latency from the samples of one interval, compiled."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def percentile_sorted(values, q):
    """Percentile of a sorted array by linear interpolation, as `np.percentile` does it."""
    position = (len(values) - 1) * q
    below = int(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (position - below)


@njit(cache=True)
def own_latency(samples, n, n_microservices, n_hosts):
    """Count (M, H), mean (M, H), p95 (M, H) and p95 per microservice (M,) of the first `n` own-latency samples [ms].

    Groups without a sample have count 0 and undefined values.
    """
    n_groups = n_microservices * n_hosts
    count = np.zeros(n_groups, np.int64)
    for i in range(n):
        count[samples[i].microservice * n_hosts + samples[i].host] += 1
    begin = np.zeros(n_groups + 1, np.int64)
    begin[1:] = np.cumsum(count)
    place = begin[:-1].copy()
    values = np.empty(n)
    for i in range(n):
        group = samples[i].microservice * n_hosts + samples[i].host
        values[place[group]] = samples[i].own
        place[group] += 1
    mean = np.zeros(n_groups)
    p95 = np.zeros(n_groups)
    of_microservice = np.zeros(n_microservices)
    for group in range(n_groups):
        part = values[begin[group] : begin[group + 1]]
        if len(part) > 0:
            part.sort()
            mean[group] = part.mean()
            p95[group] = percentile_sorted(part, 0.95)
    for m in range(n_microservices):
        part = values[begin[m * n_hosts] : begin[(m + 1) * n_hosts]]
        if len(part) > 0:
            part.sort()
            of_microservice[m] = percentile_sorted(part, 0.95)
    shape = (n_microservices, n_hosts)
    return count.reshape(shape), mean.reshape(shape), p95.reshape(shape), of_microservice
