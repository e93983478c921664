"""Interference of generated hosts, after the machines of cluster-trace-v2018."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.alibaba.statistics import utilisation_statistics
from imbres_gym.sim.interference import JUMP, JUMP_DURATION_S, Level, MovingInterference

MOST_LEVELS = 200
"""Different levels; with more hosts they repeat."""


def host_levels(n_hosts: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(L,) mean CPU utilisation of hosts by best-effort jobs [0-1], in random order.

    Stratified quantiles of the Beta distribution with the mean and the spread of the machines' means.
    """
    from scipy.stats import beta

    known = utilisation_statistics()
    concentration = known.mean * (1.0 - known.mean) / known.deviation_between**2 - 1.0
    n = min(n_hosts, MOST_LEVELS)
    quantiles = (np.arange(n) + rng.random(n)) / n
    levels = beta.ppf(quantiles, known.mean * concentration, (1.0 - known.mean) * concentration)
    return np.asarray(rng.permutation(np.round(levels, 3)), dtype=np.float64)


def moving_interference(levels: NDArray[np.float64]) -> MovingInterference:
    """The process of `MovingInterference` with Alibaba's statistics around these levels.

    Jumps begin half as often as large changes are seen, since most end within a minute or so of others and the end is a
    change as well. What they add to the variance is taken from that of the fast part. Memory bandwidth, network and LLC
    have the level of the CPU: estimate, as in the other scenarios.
    """
    known = utilisation_statistics()
    rate = known.large_changes / 2.0
    variance = known.deviation_within**2
    mean_square = (JUMP[0] ** 2 + JUMP[0] * JUMP[1] + JUMP[1] ** 2) / 3.0
    of_jumps = rate * JUMP_DURATION_S / 60.0 * mean_square
    fast = (1.0 - known.slow_share) * variance - of_jumps
    return MovingInterference(
        levels=[Level(cpu=level, memory_bandwidth=level, network=level, llc=level) for level in levels.tolist()],
        autocorrelation_per_minute=known.fast_autocorrelation,
        deviation=round(float(np.sqrt(fast)), 3),
        slow_autocorrelation_per_minute=known.slow_autocorrelation,
        slow_deviation=round(float(np.sqrt(known.slow_share * variance)), 3),
        jumps_per_minute=round(rate, 5),
    )
