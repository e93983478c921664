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


@fused
def convolve(values, by, scratch):
    """Distribution of the sum; what would be beyond the last node is put there.

    Eight nodes of `values` at a time, over one loop that the compiler can vectorise.
    """
    width, rows = extent(by), extent(values)
    if width == 1:  # nothing is added
        return
    if rows == 1:
        for j in range(NODES):
            values[j] = by[j]
        return
    sums, padded = scratch[:NODES], scratch[NODES:]
    for j in range(BLOCK - 1):
        padded[j] = 0.0
    for j in range(NODES):
        padded[BLOCK - 1 + j] = by[j]
        sums[j] = 0.0
    for i in range(0, rows, BLOCK):
        v0, v1, v2, v3 = values[i], values[i + 1], values[i + 2], values[i + 3]
        v4, v5, v6, v7 = values[i + 4], values[i + 5], values[i + 6], values[i + 7]
        part = sums[i:]
        # A multiple of the width of a vector: no rest is left that would be done node by node.
        for j in range(min(NODES - i, (width + BLOCK + 2) & -4)):
            late = v4 * padded[j + 3] + (v5 * padded[j + 2] + (v6 * padded[j + 1] + v7 * padded[j]))
            early = v0 * padded[j + 7] + (v1 * padded[j + 6] + (v2 * padded[j + 5] + (v3 * padded[j + 4] + part[j])))
            part[j] = early + late
    beyond = max(0.0, 1.0 - total(sums))
    for j in range(NODES):
        values[j] = sums[j]
    values[NODES - 1] += beyond


@inlined
def total(values):
    """Sum over the nodes, in four strands: in one, each addition would wait for the one before."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for j in range(0, NODES, 4):
        a += values[j]
        b += values[j + 1]
        c += values[j + 2]
        d += values[j + 3]
    return (a + b) + (c + d)


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
def after_delays(values, mean, once, twice, delay, delays):
    """Sums of `values` and of nothing with one and with two exponential delays of a mean [steps], here geometric.

    `once` and `twice` are those of `values`, `delay` and `delays` those of nothing. All go side by side: what takes
    time is that each node waits for the one before.
    """
    stays = mean / (1.0 + mean)
    ends, late, later, lasts, longer = 1.0 - stays, 0.0, 0.0, 1.0, 0.0
    for j in range(NODES - 1):
        late = values[j] + stays * late
        once[j] = ends * late
        later = once[j] + stays * later
        twice[j] = ends * later
        delay[j] = ends * lasts
        longer = delay[j] + stays * longer
        delays[j] = ends * longer
        lasts *= stays
    # What a delay takes beyond the last node is all there.
    once[NODES - 1] = values[NODES - 1] + stays * late
    twice[NODES - 1] = once[NODES - 1] + stays * later
    delay[NODES - 1] = lasts
    delays[NODES - 1] = lasts + stays * longer


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
