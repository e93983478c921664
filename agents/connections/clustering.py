"""K-means of numbers, solved exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def kmeans_1d(values: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Label of each value in the partition into at most k groups with the least sum of squared deviations.

    Numbers have an order, and the groups of an optimal partition are intervals of it. So dynamic programming finds
    the optimum that Lloyd's iteration (scikit-learn's KMeans) approaches from a random start; it needs no seed, and
    the same numbers always give the same groups. Equal values share a group: with fewer than k distinct values there
    are fewer groups. O(k d^2) time for d distinct values (of Imbres: at most one per host).

    Args:
        values: (n,) numbers.
        k: largest number of groups, >= 1.

    Returns:
        (n,) int64 labels, rising with the value, from 0.
    """
    distinct, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    size = len(distinct)
    groups = min(k, size)
    centred = distinct - distinct.mean()
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    first = np.concatenate([[0.0], np.cumsum(counts * centred)])
    second = np.concatenate([[0.0], np.cumsum(counts * centred**2)])
    # cost[start, end]: squared deviations of the values [start, end) from their mean.
    size_of = np.maximum(weight[None, :] - weight[:, None], 1.0)
    cost = second[None, :] - second[:, None] - (first[None, :] - first[:, None]) ** 2 / size_of
    cost = np.where(np.tri(size + 1, dtype=bool), np.inf, np.maximum(cost, 0.0))
    best = np.full(size + 1, np.inf)
    best[0] = 0.0
    cuts = np.zeros((groups, size + 1), np.int64)
    for group in range(groups):
        total = best[:, None] + cost
        cuts[group] = np.argmin(total, axis=0)
        best = total.min(axis=0)
    labels = np.zeros(size, np.int64)
    end = size
    for group in reversed(range(groups)):
        start = int(cuts[group, end])
        labels[start:end] = group
        end = start
    return labels[position]
