"""K-means of numbers, solved exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLACK = 1e-9
"""Rounding errors of a cost are less than this share of the squared deviations of all values."""


def kmeans_1d(values: Floats, k: int) -> Ints:
    """Label of each value in the partition into at most k groups with the least sum of squared deviations.

    Numbers have an order, and the groups of an optimal partition are intervals of it. So dynamic programming finds
    the optimum that Lloyd's iteration (scikit-learn's KMeans) approaches from a random start; it needs no seed, and
    the same numbers always give the same groups. Equal values share a group: with fewer than k distinct values there
    are fewer groups. O(k d^2) time at most for d distinct values (of Imbres: at most one per host).

    Args:
        values: (n,) numbers.
        k: largest number of groups, >= 1.

    Returns:
        (n,) int64 labels, rising with the value, from 0.
    """
    distinct, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    centred = distinct - distinct.mean()
    # Sums over the first values: of their weights, of the values, of their squares.
    sums = np.zeros((3, len(distinct) + 1))
    np.cumsum([counts, counts * centred, counts * centred**2], axis=1, out=sums[:, 1:])
    labels: Ints = _partition(sums, min(k, len(distinct)))[position]
    return labels


@compiled
def _partition(sums: Floats, groups: int) -> Ints:
    """Labels of sorted distinct values in the best partition into exactly `groups` intervals.

    best[end]: least cost of the values [0, end) in as many groups as were allowed so far; cuts[group, end]: where the
    last of them starts.
    """
    size = sums.shape[1] - 1
    slack = SLACK * sums[2, size]
    cuts = np.zeros((groups, size + 1), np.int64)
    best = np.array([_cost(sums, 0, end) for end in range(size + 1)])
    for group in range(1, groups):
        before = best.copy()
        for end in range(group + 1, size + 1):
            least = np.inf
            for start in range(end - 1, group - 1, -1):
                cost = _cost(sums, start, end)
                if cost > least + slack:  # it only grows with more values
                    break
                if before[start] + cost <= least:
                    least = before[start] + cost
                    cuts[group, end] = start
            best[end] = least
    labels = np.zeros(size, np.int64)
    end = size
    for group in range(groups - 1, -1, -1):
        start = cuts[group, end]
        labels[start:end] = group
        end = start
    return labels


@compiled
def _cost(sums: Floats, start: int, end: int) -> float:
    """Squared deviations of the values [start, end) from their mean."""
    weight = sums[0, end] - sums[0, start]
    first = sums[1, end] - sums[1, start]
    second = sums[2, end] - sums[2, start]
    return max(second - first * first / max(weight, 1.0), 0.0)
