"""K-means of numbers, solved exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLACK = 1e-9
"""Rounding errors of a cost are less than this share of the squared deviations of all values."""


def kmeans_1d(values: Floats, k: int, least: int = 1) -> Ints:
    """Label of each value in the partition into at most k groups with the least sum of squared deviations.

    Numbers have an order, and the groups of an optimal partition are intervals of it. So dynamic programming finds
    the optimum that Lloyd's iteration (scikit-learn's KMeans) approaches from a random start; it needs no seed, and
    the same numbers always give the same groups. Equal values share a group: with fewer than k distinct values there
    are fewer groups. O(k d^2) time at most for d distinct values (of Imbres: at most one per host).

    Args:
        values: (n,) numbers.
        k: largest number of groups, >= 1.
        least: members of every group, at least; one group if there are fewer values. Of the partitions into intervals
            that comply, the best is taken.

    Returns:
        (n,) int64 labels, rising with the value, from 0.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    distinct = ordered[starts]
    labels = np.empty(len(values), np.int64)
    labels[order] = _partition(distinct - distinct.mean(), np.append(starts, len(values)), k, least)
    return labels


@compiled
def _partition(distinct: Floats, starts: Ints, k: int, least: int) -> Ints:
    """Labels of sorted values in the best partition into at most k intervals.

    best[end]: least cost of the distinct values [0, end) in as many groups as were allowed so far; cuts[group, end]:
    where the last of them starts, or 0 if one group less is better.

    Args:
        distinct: (d,) the distinct values, rising, near zero.
        starts: (d + 1,) position of the first value that is equal to each, and the number of values.
        k: largest number of groups.
        least: members of a group.
    """
    size = len(distinct)
    groups = min(k, size)
    sums = np.zeros((3, size + 1))  # over the first distinct values: of their counts, of the values, of their squares
    for index in range(size):
        count = starts[index + 1] - starts[index]
        sums[0, index + 1] = sums[0, index] + count
        sums[1, index + 1] = sums[1, index] + count * distinct[index]
        sums[2, index + 1] = sums[2, index] + count * (distinct[index] * distinct[index])
    slack = SLACK * sums[2, size]
    cuts = np.zeros((groups, size + 1), np.int64)
    best = np.array(
        [_cost(sums, 0, end) if starts[end] >= min(least, starts[size]) else np.inf for end in range(size + 1)]
    )
    for group in range(1, groups):
        before = best.copy()
        for end in range(group + 1, size + 1):
            # One group more never costs more, but for rounding, unless groups have a least size.
            lowest = np.inf if least == 1 else before[end]
            for start in range(end - 1, group - 1, -1):
                cost = _cost(sums, start, end)
                if cost > lowest + slack:  # it only grows with more values
                    break
                if starts[end] - starts[start] >= least and before[start] + cost <= lowest:
                    lowest = before[start] + cost
                    cuts[group, end] = start
            best[end] = lowest
    labels = np.zeros(starts[size], np.int64)
    end = size
    for group in range(groups - 1, 0, -1):
        start = cuts[group, end]
        if start > 0:
            labels[starts[start] :] += 1
            end = start
    return labels


@compiled
def _cost(sums: Floats, start: int, end: int) -> float:
    """Squared deviations of the values [start, end) from their mean."""
    weight = sums[0, end] - sums[0, start]
    first = sums[1, end] - sums[1, start]
    second = sums[2, end] - sums[2, start]
    cost: float = max(second - first * first / max(weight, 1.0), 0.0)
    return cost
