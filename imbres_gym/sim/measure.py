"""Statistics of own latency from the samples of one interval, compiled."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def select(values, k):
    """Move the value of rank k to place k, smaller ones before it and larger ones behind it (Hoare 1961)."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[k]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < k:
            low = i
        if k < i:
            high = j


@njit(cache=True)
def percentile(values, q):
    """Percentile by linear interpolation, as `np.percentile` does it; reorders the values."""
    position = (len(values) - 1) * q
    below = int(position)
    select(values, below)
    if below + 1 == len(values):
        return values[below]
    return values[below] + (values[below + 1 :].min() - values[below]) * (position - below)


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
            mean[group] = part.mean()
            p95[group] = percentile(part, 0.95)
    for m in range(n_microservices):
        part = values[begin[m * n_hosts] : begin[(m + 1) * n_hosts]]
        if len(part) > 0:
            of_microservice[m] = percentile(part, 0.95)
    shape = (n_microservices, n_hosts)
    return count.reshape(shape), mean.reshape(shape), p95.reshape(shape), of_microservice
