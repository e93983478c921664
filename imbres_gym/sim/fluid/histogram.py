"""Arithmetic of distributions of waiting times on evenly spaced nodes, compiled.

Node j holds the chance of a wait of about j steps; the last one also holds what is beyond it.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

from imbres_gym.sim.compiled import fused, inlined

NODES = 64

BLOCK = 8
"""Nodes that a convolution takes together; `NODES` is a multiple."""

SCRATCH = 2 * NODES + BLOCK
"""Room that a convolution needs."""

NEGLIGIBLE = 1e-12
"""Chance of a node that is left out at the end of a distribution."""


@inlined
def spread_evenly(chance, low, high, out, density):
    """Add a chance, evenly spread from `low` to `high` [steps]: at the ends to nodes, in between as a density."""
    last = NODES - 1.0
    low, high = min(low, last), min(high, last)
    first, end = int(low + 0.5), int(high + 0.5)
    if end <= first + 1 or high - low < 2.0:
        # A short piece: its middle, shared by the two nodes around it.
        middle = 0.5 * (low + high)
        node = min(int(middle), NODES - 2)
        out[node] += chance * (1.0 - (middle - node))
        out[node + 1] += chance * (middle - node)
        return
    # A long one: nodes first + 1 to end - 1 get an even share, the rest goes to both ends.
    each = chance / (high - low)
    out[first] += each * (first + 0.5 - low)
    out[end] += each * (high - end + 0.5)
    density[first + 1] += each
    density[end] -= each


@inlined
def extent(values):
    """Number of nodes up to the last one that matters."""
    last = NODES - 1
    while last > 0 and values[last] < NEGLIGIBLE:
        last -= 1
    return last + 1


@inlined
def convolve(values, by, scratch):
    """Distribution of the sum; what would be beyond the last node is put there.

    Eight nodes of `values` at a time, over one loop that the compiler can vectorise: most of a step's time goes here.
    """
    width, rows = extent(by), extent(values)
    if width == 1:  # nothing is added
        return
    if rows == 1:
        first = values[0]
        for j in range(NODES):
            values[j] = first * by[j]
        return
    sums, padded = scratch[:NODES], scratch[NODES:]
    for j in range(BLOCK - 1):
        padded[j] = 0.0
    one, other = 0.0, 0.0
    for j in range(NODES):
        padded[BLOCK - 1 + j] = by[j]
        sums[j] = 0.0
        one += values[j]
        other += by[j]
    for i in range(0, rows, BLOCK):
        v0, v1, v2, v3 = values[i], values[i + 1], values[i + 2], values[i + 3]
        v4, v5, v6, v7 = values[i + 4], values[i + 5], values[i + 6], values[i + 7]
        part = sums[i:]
        for j in range(min(NODES - i, width + BLOCK - 1)):
            early = (v0 * padded[j + 7] + v1 * padded[j + 6]) + (v2 * padded[j + 5] + v3 * padded[j + 4])
            late = (v4 * padded[j + 3] + v5 * padded[j + 2]) + (v6 * padded[j + 1] + v7 * padded[j])
            part[j] += early + late
    beyond = one * other
    for j in range(NODES - 1):
        values[j] = sums[j]
        beyond -= sums[j]
    values[NODES - 1] = max(0.0, beyond)


@inlined
def rescale(values, ratio, out):
    """The same distribution on nodes that are wider apart: each chance is shared by the two nodes around it."""
    out[:] = 0.0
    for j in range(NODES):
        place = j * ratio
        node = min(int(place), NODES - 2)
        part = min(1.0, place - node)
        out[node] += values[j] * (1.0 - part)
        out[node + 1] += values[j] * part


@inlined
def parallel(one, one_lead, other, other_lead):
    """Distribution of the larger of two, in `one`; each is less by its lead [steps]."""
    distribution(one, one_lead)
    distribution(other, other_lead)
    before = 0.0
    for j in range(NODES):
        now = one[j] * other[j]
        one[j] = now - before
        before = now
    one[NODES - 1] += max(0.0, 1.0 - before)


@inlined
def distribution(values, lead):
    """Chances become the distribution function, moved down by a lead [steps]."""
    for j in range(1, NODES):
        values[j] += values[j - 1]
    if lead > 0.0:
        shift = int(min(lead, NODES))
        part = min(1.0, lead - shift)
        for j in range(NODES):
            low = values[j + shift] if j + shift < NODES else 1.0
            high = values[j + shift + 1] if j + shift + 1 < NODES else 1.0
            values[j] = low + part * (high - low)


@fused
def delay(values, chance, other_chance, mean):
    """Add two exponential delays of one mean [steps], here geometric, that happen with these chances."""
    if chance <= 0.0 and other_chance <= 0.0:
        return
    stays = mean / (1.0 + mean)
    ends, late, later = 1.0 - stays, 0.0, 0.0
    for j in range(NODES):
        late = values[j] + stays * late
        once = values[j] + chance * (ends * late - values[j])
        later = once + stays * later
        values[j] = once + other_chance * (ends * later - once)
    # Of what the first delay takes beyond the last node, all is there; so is what the second does.
    values[NODES - 1] += chance * stays * late + other_chance * stays * later


@inlined
def larger(mean, variance, other_mean, other_variance):
    """Mean and variance of the larger of two normal variates (Clark 1961)."""
    spread = math.sqrt(variance + other_variance)
    if spread <= 1e-9:
        return max(mean, other_mean), 0.0
    x = (mean - other_mean) / spread
    density = math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    chance = 0.5 * math.erfc(-x / math.sqrt(2.0))
    first = mean * chance + other_mean * (1.0 - chance) + spread * density
    second = (mean**2 + variance) * chance + (other_mean**2 + other_variance) * (1.0 - chance)
    second += (mean + other_mean) * spread * density
    return first, max(0.0, second - first * first)
