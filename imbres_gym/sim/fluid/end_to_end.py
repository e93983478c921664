"""E2E latency of each request class as a fine histogram, compiled."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.fluid.compiled import kernel
from imbres_gym.sim.fluid.histogram import NODES

Floats = NDArray[np.float64]

BINS = 256
BEYOND = 1e-4
"""Chance that a latency may be beyond the last bin."""


class Composed(NamedTuple):
    """E2E latency of each class as a histogram: `chance[c, b]` from `origin[c] + b * width[c]` on [ms]."""

    origin: Floats  # (C,)
    width: Floats
    chance: Floats  # (C, BINS)
    scratch: Floats  # (2, BINS)


def new_composed(n_classes: int) -> Composed:
    """Room for the latencies of the classes."""
    return Composed(np.zeros(n_classes), np.zeros(n_classes), np.zeros((n_classes, BINS)), np.zeros((2, BINS)))


@kernel
def end_to_end(kinds, response, times, composed):
    """E2E latency of each class: the time of its root, and the messages from and to the end user."""
    density, even = composed.scratch[0], composed.scratch[1]
    for c in range(len(kinds.root)):
        k = kinds.root[c]
        hop = kinds.hop_ms * (1.0 + response.network[kinds.microservice[k]] * times.network[k])
        mean, variance, step = times.mean[k] + hop, times.variance[k] + 0.5 * hop * hop, times.step[k]
        wide, chance = times.wide[k], composed.chance[c]
        last, tail = NODES - 1, wide[NODES - 1]
        while last > 0 and tail < BEYOND:
            last -= 1
            tail += wide[last]
        deviation = math.sqrt(variance)
        origin = max(0.0, mean - 4.0 * deviation)
        width = max(mean + 5.0 * deviation + (last + 1.0) * step - origin, 1e-6) / BINS
        composed.origin[c], composed.width[c] = origin, width
        support = bell(mean, variance, origin, width, density)
        chance[:] = 0.0
        for b in range(support):
            chance[b] += wide[0] * density[b]
        if last == 0:
            continue
        box = max(1, int(step / width + 0.5))
        support = min(BINS, support + box)
        smooth(density, box, support, even)
        for j in range(1, NODES):
            start = int(max(0.0, (min(j, last) - 0.5) * step / width + 0.5))
            for b in range(min(support, BINS - start)):
                chance[start + b] += wide[j] * even[b]


@inlined
def bell(mean, variance, origin, width, density):
    """Chances of a Gamma variate in bins (Wilson and Hilferty 1931); returns how many bins matter."""
    density[:] = 0.0
    if variance <= 1e-12 * mean * mean or mean <= 0.0:
        density[min(BINS - 1, int((mean - origin) / width))] = 1.0
        return min(BINS, int((mean - origin) / width) + 1)
    shape = mean * mean / variance
    before = 0.0
    for b in range(BINS):
        x = (origin + (b + 1) * width) / mean
        z = (x ** (1.0 / 3.0) - 1.0 + 1.0 / (9.0 * shape)) * 3.0 * math.sqrt(shape)
        now = 0.5 * math.erfc(-z / math.sqrt(2.0))
        density[b] = now - before
        before = now
        if now > 1.0 - 1e-6:
            density[b] += 1.0 - now
            return b + 1
    density[BINS - 1] += 1.0 - before
    return BINS


@inlined
def smooth(density, box, support, out):
    """Running mean over the `box` bins before and with each, of the first `support` bins."""
    inside = 0.0
    for b in range(support):
        inside += density[b]
        if b >= box:
            inside -= density[b - box]
        out[b] = max(0.0, inside) / box


@inlined
def moments(composed, c):
    """Mean and variance of the composed latency of class c."""
    total, first, second = 0.0, 0.0, 0.0
    for b in range(BINS):
        x = b + 0.5
        total += composed.chance[c, b]
        first += composed.chance[c, b] * x
        second += composed.chance[c, b] * x * x
    first /= total
    spread = composed.width[c] ** 2 * (second / total - first * first)
    return composed.origin[c] + composed.width[c] * first, spread
