"""Percentiles of latencies in which failed requests count: exact, and quick where the latencies come sorted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAILED_MS = 10_000.0
"""Latency that stands for a failed request in percentiles [ms]: the client's time-out in DeathStarBench (10 s)."""
MIN_REQUESTS = 20
"""Requests without which a p95 says nothing: of fewer, the slowest twentieth is less than one request. Neither do
agents go by the p95 of so few, nor is it held against the SLA."""


def tail_latency(latencies_ms: Floats, failed: int, percentile: float) -> float:
    """Percentile of the latencies where each failed request counts as `FAILED_MS`; 0 without requests."""
    return tail_latencies([latencies_ms], failed, (percentile,))[0]


def on_one_scale(parts: Sequence[Floats], ended: Sequence[int], failed: Sequence[int]) -> tuple[list[Floats], int]:
    """Latencies of several classes or intervals, and their failures, so that each stands for as many requests.

    Where all requests are listed nothing changes. Where a part is a sample, all are thinned to the coarsest one.

    Args:
        parts: latencies of the requests that did not fail; a sample is sorted and even.
        ended: requests of each part, failed ones included.
        failed: failed ones.

    Returns:
        The parts, and the number of failures beside them.
    """
    good = [all_of - bad for all_of, bad in zip(ended, failed, strict=True)]
    weight = max(sample_weights(parts, ended, failed), default=1.0)
    if weight <= 1.0:
        return list(parts), int(sum(failed))
    return [_thinned(part, count / weight) for part, count in zip(parts, good, strict=True)], round(
        sum(failed) / weight
    )


def _thinned(part: Floats, size: float) -> Floats:
    """Values at evenly spaced ranks of a sorted part."""
    keep = min(round(size), part.size)
    if keep in (0, part.size):
        return part[:keep]
    return np.sort(part)[((np.arange(keep) + 0.5) * (part.size / keep)).astype(np.int64)]


def class_tails(latencies_ms: Sequence[Floats], ended: Ints, failed: Ints, percentile: float) -> list[float]:
    """Percentile of each class of one interval, see `tail_latency` [ms].

    Args:
        latencies_ms: C arrays, see `imbres_gym.telemetry.Telemetry`.
        ended: (C,) int64, requests.
        failed: (C,) int64, of them.
        percentile: [0-100].
    """
    tails = []
    for latencies, all_of, bad in zip(latencies_ms, ended.tolist(), failed.tolist(), strict=True):
        parts, beside = on_one_scale([latencies], [all_of], [bad])
        tails.append(tail_latency(parts[0], beside, percentile))
    return tails


def tail_latencies(
    parts: Sequence[Floats], failed: int, percentiles: Sequence[float], weights: Sequence[float] | None = None
) -> list[float]:
    """Percentiles of all parts together, interpolated as by `np.percentile`.

    Args:
        parts: latencies [ms], in any order; parts that are sorted cost little.
        failed: requests that count as `FAILED_MS`.
        percentiles: [0-100].
        weights: requests that each latency of a part stands for, see `sample_weights`; None is 1.

    Returns:
        One value each [ms]; 0 without requests.
    """
    edges = np.array([0, *accumulate([part.size for part in parts])])
    values = np.concatenate(parts) if len(parts) != 1 else np.array(parts[0], np.float64)
    weight = np.ones(len(parts)) if weights is None else np.array(weights)
    return _of_parts(values, edges, weight, failed, np.array(percentiles)).tolist()  # type: ignore[no-any-return]


def sample_weights(parts: Sequence[Floats], ended: Sequence[int], failed: Sequence[int]) -> list[float]:
    """How many requests each latency stands for, at least 1: more in a sample.

    Args:
        parts: latencies of the requests that did not fail.
        ended: requests of each part, failed ones included.
        failed: failed ones.
    """
    of_all = zip(parts, ended, failed, strict=True)
    return [max(1.0, (count - bad) / part.size) if part.size else 1.0 for part, count, bad in of_all]


@compiled
def _of_parts(values: Floats, edges: Ints, weight: Floats, failed: int, percentiles: Floats) -> Floats:
    """Of parts that lie one after another and may be sorted in place."""
    for part in range(len(edges) - 1):
        sort_if_needed(values[edges[part] : edges[part + 1]])
    result = np.zeros(len(percentiles))
    for i in range(len(percentiles)):
        result[i] = percentile(values, edges[:-1], edges[1:], weight, float(failed), percentiles[i] / 100.0)
    return result


@compiled
def sort_if_needed(values: Floats) -> None:
    """Sort in place; values that are sorted are left alone."""
    for i in range(1, len(values)):
        if values[i - 1] > values[i]:
            values.sort()
            return


@compiled
def copy_sorted(values: Floats, out: Floats) -> None:
    """Copy values (n,) in rising order."""
    out[:] = values
    sort_if_needed(out)


@compiled
def percentile(values: Floats, begin: Ints, end: Ints, weight: Floats, failed: float, quantile: float) -> float:
    """Of the sorted parts `values[begin[i]:end[i]]` and of failed requests, by the linear rule of `np.percentile`.

    Args:
        values: (n,) [ms].
        begin: (parts,) int64.
        end: (parts,) int64.
        weight: (parts,) requests that each value of a part stands for.
        failed: requests that count as `FAILED_MS`.
        quantile: [0-1].
    """
    total = failed
    for part in range(len(begin)):
        total += weight[part] * (end[part] - begin[part])
    if total <= 0.0:
        return 0.0
    place = max(0.0, (total - 1.0) * quantile)
    below = np.floor(place)
    low, high = _ranked(values, begin, end, weight, failed, below)
    if below + 1.0 >= total:
        high = low
    return float(_between(low, high, place - below))


@compiled
def _between(low: float, high: float, part: float) -> float:
    """As NumPy interpolates: from the nearer end."""
    return high - (high - low) * (1.0 - part) if part >= 0.5 else low + (high - low) * part


@compiled
def summarise(values: Floats, out: Floats) -> None:
    """Mean, p50, p95 and p99 of sorted values, at least one, into `out` (4,)."""
    out[0] = values.mean()
    for i, quantile in enumerate((0.5, 0.95, 0.99)):
        place = (len(values) - 1) * quantile
        below = int(np.floor(place))
        out[i + 1] = _between(values[below], values[min(below + 1, len(values) - 1)], place - below)


@compiled
def _ranked(values: Floats, begin: Ints, end: Ints, weight: Floats, failed: float, rank: float) -> tuple[float, float]:
    """The value with so many smaller ones among sorted parts, and the next one: brackets around it get smaller."""
    low, high, smaller, larger = np.empty((4, len(begin)), np.int64)
    low[:], high[:] = begin, end
    halve = False
    while True:
        widest, below, inside = 0, 0.0, failed
        for part in range(len(low)):
            below += weight[part] * (low[part] - begin[part])
            inside += weight[part] * (high[part] - low[part])
            if high[part] - low[part] > high[widest] - low[widest]:
                widest = part
        failure = high[widest] <= low[widest]
        # Parts that are alike have the value at the same share of each; every second time the middle, if they are not.
        share = 0.5 if halve else min(max((rank - below) / inside, 0.0), 1.0)
        place = min(low[widest] + int(share * (high[widest] - low[widest])), high[widest] - 1)
        pivot = FAILED_MS if failure else values[place]
        halve = not halve
        less = failed if pivot > FAILED_MS else 0.0
        up_to = failed if pivot >= FAILED_MS else 0.0
        for part in range(len(low)):
            near = low[part] + int(share * (high[part] - low[part]))
            smaller[part] = _first(values, low[part], near, high[part], pivot, False)
            larger[part] = _first(values, smaller[part], smaller[part], high[part], pivot, True)
            less += weight[part] * (smaller[part] - begin[part])
            up_to += weight[part] * (larger[part] - begin[part])
        if failure or less <= rank < up_to:
            if rank + 1.0 < up_to:
                return pivot, pivot
            following = FAILED_MS if pivot < FAILED_MS and failed > 0.0 else np.inf
            for part in range(len(low)):
                if larger[part] < end[part]:
                    following = min(following, values[larger[part]])
            return pivot, following
        for part in range(len(low)):
            if rank < less:
                high[part] = smaller[part]
            else:
                low[part] = larger[part]


@compiled
def _first(values: Floats, low: int, near: int, high: int, pivot: float, beyond: bool) -> int:
    """First place in a sorted range of a value not below the pivot, or above it; looks near a place first."""
    step = 1
    if near < high and _before(values[near], pivot, beyond):
        low = near + 1
        while low + step <= high and _before(values[low + step - 1], pivot, beyond):
            low += step
            step *= 2
        high = min(high, low + step - 1)
    else:
        high = near
        while high - step >= low and not _before(values[high - step], pivot, beyond):
            high -= step
            step *= 2
        low = max(low, high - step + 1)
    while low < high:
        middle = (low + high) // 2
        if _before(values[middle], pivot, beyond):
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _before(value: float, pivot: float, beyond: bool) -> bool:
    return value < pivot or (beyond and value == pivot)
