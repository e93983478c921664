"""Arithmetic of distributions of waiting times on evenly spaced nodes, compiled.

Node j holds the chance of a wait of about j steps; the last one also holds what is beyond it.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

from imbres_gym.sim.compiled import fused, inlined, shared

NODES = 64

BLOCK = 8
"""Nodes that a convolution takes together; `NODES` is a multiple."""

SHIFTED = NODES + BLOCK
SCRATCH = SHIFTED + NODES
"""Room that a convolution needs: for the sums, zeros, and one of the distributions, which begins at `SHIFTED`."""

NEGLIGIBLE = 1e-12
"""Chance of a node that is left out at the end of a distribution."""


@inlined
def spread_evenly(chance, low, high, out, density):
    """Add a chance, evenly spread from `low` to `high` [steps], to nodes at the ends, in between as a density.

    Neither is beyond the last node.
    """
    first, end = int(low + 0.5), int(high + 0.5)
    if high - low < 2.0 or end <= first + 1:
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


@shared
def convolve(values, by, room):
    """Distribution of the sum; what would be beyond the last node is put there.

    Eight nodes of `values` at a time: each is a loop whose bounds, and whose places in `room`, the compiler knows, so
    that it needs no checks before it uses vectors. Shorter loops over what matters of `by` only would take longer.
    """
    rows = extent(values)
    if extent(by) == 1:  # nothing is added
        return
    if rows == 1:
        for j in range(NODES):
            values[j] = by[j]
        return
    for j in range(BLOCK):
        room[NODES + j] = 0.0
    for j in range(NODES):
        room[SHIFTED + j] = by[j]
        room[j] = 0.0
    add_rows(values, room, 0)
    if rows > 8:
        add_rows(values, room, 8)
    if rows > 16:
        add_rows(values, room, 16)
    if rows > 24:
        add_rows(values, room, 24)
    if rows > 32:
        add_rows(values, room, 32)
    if rows > 40:
        add_rows(values, room, 40)
    if rows > 48:
        add_rows(values, room, 48)
    if rows > 56:
        add_rows(values, room, 56)
    beyond = max(0.0, 1.0 - total(room[:NODES]))
    for j in range(NODES):
        values[j] = room[j]
    values[NODES - 1] += beyond


@fused
def add_rows(values, room, i):
    """Add to the sums in `room` the part of nodes i to i + 7 of `values`; the other distribution is behind the sums."""
    v0, v1, v2, v3 = values[i], values[i + 1], values[i + 2], values[i + 3]
    v4, v5, v6, v7 = values[i + 4], values[i + 5], values[i + 6], values[i + 7]
    for j in range(NODES - i):
        x = SHIFTED + j
        early = v0 * room[x] + (v1 * room[x - 1] + (v2 * room[x - 2] + (v3 * room[x - 3] + room[i + j])))
        late = v4 * room[x - 4] + (v5 * room[x - 5] + (v6 * room[x - 6] + v7 * room[x - 7]))
        room[i + j] = early + late


@inlined
def total(values):
    """Sum of a multiple of four values, in four strands: in one, each addition would wait for the one before."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for j in range(0, len(values), 4):
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
