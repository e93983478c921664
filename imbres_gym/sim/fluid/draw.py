"""From expectations to what is measured: counts of arrivals, and latencies of finite samples, compiled.

Arrivals are Poisson. The calls that follow from them are as many as the trees say, spread over containers at random.
A percentile of R requests is that of the composed distribution at a level that is off by a Brownian bridge of variance
1 / R, times the inflation of the variance by calls that wait for the same quota (see `imbres_gym.sim.fluid.surfaces`).
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.fluid.compiled import kernel
from imbres_gym.sim.fluid.end_to_end import moments
from imbres_gym.sim.fluid.histogram import total
from imbres_gym.sim.fluid.levels import P95, at_level
from imbres_gym.sim.fluid.own import CALLS, EXCESS, MEAN, VARIANCE
from imbres_gym.sim.fluid.station import add
from imbres_gym.sim.fluid.surfaces import DEVIATION, INFLATION
from imbres_gym.sim.random import ARRIVALS, DELAYS, ROUTING, normal, uniform

EXACT_COUNT = 20.0
"""Counts of a smaller mean are drawn exactly, larger ones from the normal distribution."""

WAVES = 8
"""Terms of the Brownian bridge; what is left out has a standard deviation of 0.11 of that at the middle."""

FEW = 32
"""So few requests are drawn one by one."""

LISTED = 256
"""Latencies that are listed of a class in a step; of more requests, an even sample. Between two of them lie 0.4 % of
the requests; by chance alone, the share of 4,000 requests below their p95 has a standard deviation of 0.34 %."""


BRIDGE_POINTS = 128


def bridge_waves(samples: int = BRIDGE_POINTS) -> NDArray[np.float64]:
    """(WAVES, n) terms of the Karhunen-Loeve expansion of a Brownian bridge at the middles of n strata."""
    u = (np.arange(samples) + 0.5) / samples
    j = np.arange(1, WAVES + 1)[:, None] * np.pi
    return np.asarray(math.sqrt(2.0) * np.sin(j * u) / j)


@inlined
def poisson(streams, stream, mean):
    """A Poisson count."""
    if mean > EXACT_COUNT:
        return np.int64(max(0.0, np.rint(mean + math.sqrt(mean) * normal(streams, stream))))
    limit, product, count = math.exp(-mean), uniform(streams, stream), 0
    while product > limit:
        product *= uniform(streams, stream)
        count += 1
    return count


@kernel
def count_arrivals(kinds, fleet, rates, class_rps, seconds, streams, of_class, of_container, expected, noise):
    """Arrivals of each class (C,) and at each ready container (n,) in a step, and what is expected of these (n,)."""
    expected[:] = 0.0
    for c in range(len(class_rps)):
        of_class[c] = poisson(streams, ARRIVALS, class_rps[c] * seconds)
    for k in range(len(kinds.microservice)):
        wanted, arrived = 0.0, 0.0
        for c in range(len(class_rps)):
            wanted += class_rps[c] * seconds * kinds.visits[c, k]
            arrived += of_class[c] * kinds.visits[c, k]
        factor = seconds * (arrived / wanted if wanted > 0.0 else 0.0)
        m = kinds.microservice[k]
        add(expected[fleet.begin[m] : fleet.begin[m + 1]], rates[fleet.kind_begin[k] : fleet.kind_begin[k + 1]], factor)
    for m in range(len(fleet.begin) - 1):
        low, high = fleet.begin[m], fleet.begin[m + 1]
        scatter(expected, low, high, streams, of_container, noise)


@inlined
def scatter(expected, low, high, streams, counts, noise):
    """Multinomial counts of the containers `low:high`: what one gets by chance, the others lack."""
    total, drift = 0.0, 0.0
    for i in range(low, high):
        total += expected[i]
    if total <= EXACT_COUNT * (high - low):
        for i in range(low, high):
            counts[i] = poisson(streams, ROUTING, expected[i])
        return
    for i in range(low, high):
        noise[i] = math.sqrt(expected[i]) * normal(streams, ROUTING)
        drift += noise[i]
    for i in range(low, high):
        counts[i] = max(0.0, np.rint(expected[i] + noise[i] - drift * expected[i] / total))


@kernel
def measured_own(moments, quantiles, samples, streams, mean, p95, scale):
    """Mean and p95 (cells,) of the own latencies that so many spans show; 0 without spans.

    `scale` (cells,) is the factor on the composed quantiles that the p95 has by chance.
    """
    for cell in range(len(samples)):
        scale[cell] = 1.0
        count = samples[cell]
        if count == 0 or moments[cell, CALLS] <= 0.0:
            continue
        variance = moments[cell, VARIANCE]
        inflation = max(1.0, moments[cell, EXCESS] / variance) if variance > 0.0 else 1.0
        few = min(1.0, math.sqrt(inflation / count))
        one, other = normal(streams, DELAYS), normal(streams, DELAYS)
        true = moments[cell, MEAN]
        # A normal error has no bounds; these, far beyond what counts of spans allow, are a choice.
        mean[cell] = max(0.1 * true, true + math.sqrt(max(variance, 0.0)) * few * one)
        shift = math.sqrt(0.95 / 0.05) * few * (one + other) * math.sqrt(0.5)
        p95[cell] = at_level(quantiles[cell], 0.05 * math.exp(-min(max(shift, -2.0), 2.0)))
        if quantiles[cell, P95] > 0.0:
            scale[cell] = max(p95[cell] / quantiles[cell, P95], 1e-3)


@inlined
def measured_levels(composed, c, waves, inflation, count, streams, bridge, upto):
    """Share of `count` requests of class c below each edge of its bins, as a finite sample shows it.

    `bridge` (BRIDGE_POINTS,) and `upto` (BINS + 1,) are overwritten.
    """
    chance, bins, n = composed.chance[c], composed.chance.shape[1], waves.shape[1]
    size = math.sqrt(inflation / count) if count >= FEW else 0.0
    bridge[:] = 0.0
    for j in range(0, WAVES, 4):
        one, two = size * normal(streams, DELAYS), size * normal(streams, DELAYS)
        three, four = size * normal(streams, DELAYS), size * normal(streams, DELAYS)
        for i in range(n):
            early, late = one * waves[j, i] + two * waves[j + 1, i], three * waves[j + 2, i] + four * waves[j + 3, i]
            bridge[i] += early + late
    upto[0] = level = 0.0
    scale = 1.0 / total(chance)
    for b in range(1, bins):
        level += chance[b - 1] * scale
        place = min(max(level * n - 0.5, 0.0), n - 1.001)
        i = int(place)
        upto[b] = max(upto[b - 1], level + bridge[i] + (place - i) * (bridge[i + 1] - bridge[i]))
    upto[bins] = max(1.0, upto[bins - 1])


@inlined
def list_latencies(origin, width, upto, count, streams, latencies, bin_of):
    """Sorted latencies, of `count` requests or of an even sample of them, as many as `latencies` has room for.

    `bin_of` (LISTED + 1,) is overwritten.
    """
    bins, listed = len(upto) - 1, len(latencies)
    if count < FEW:
        for r in range(listed):
            u, b = uniform(streams, DELAYS), 0
            while b < bins - 1 and upto[b + 1] < u:
                b += 1
            latencies[r] = origin + (b + part_of_bin(u, upto[b], upto[b + 1])) * width
        insert(latencies)
        return
    # Evenly spread levels: each bin marks the first that is its own, without a branch on whether it has any.
    apart = 1.0 / listed
    for i in range(listed):
        bin_of[i] = 0
    for b in range(1, bins):
        bin_of[min(max(int(upto[b] * listed + 0.5), 0), listed)] = b
    b = 0
    for i in range(listed):
        b = max(b, bin_of[i])
        # Within a bin, levels 1 / listed apart are as many milliseconds apart.
        part = ((i + 0.5) * apart - upto[b]) / max(upto[b + 1] - upto[b], 1e-12)
        latencies[i] = origin + (b + min(max(part, 0.0), 1.0)) * width


@inlined
def share_above(origin, width, upto, limit):
    """Share of the requests that take longer than a limit."""
    place, bins = (limit - origin) / width, len(upto) - 1
    if place <= 0.0:
        return 1.0
    if place >= bins:
        return 0.0
    b = int(place)
    return max(0.0, 1.0 - (upto[b] + (place - b) * (upto[b + 1] - upto[b])))


@inlined
def part_of_bin(u, low, high):
    """How far a level is into the bin from level `low` to `high` [0-1]."""
    return min(max((u - low) / (high - low), 0.0), 1.0) if high > low else 0.5


@inlined
def insert(values):
    """Sort a few values."""
    for i in range(1, len(values)):
        value, j = values[i], i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@inlined
def within(values, limit):
    """How many of sorted values are not above a limit."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] <= limit:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def draw_requests(waves, streams, work, deadline_ms, sla_ms, tally):
    """Latencies of the requests that end without failure, into `work`, and the count of all that end.

    Args:
        waves: see `bridge_waves`.
        streams: random numbers.
        work: of the step; `latencies` (C, LISTED) and `listed` (C,) are overwritten.
        deadline_ms: (C,) a slower request fails.
        sla_ms: a slower one is slow.
        tally: counts requests.
    """
    composed, upto = work.composed, work.upto
    for c in range(len(deadline_ms)):
        count = np.int64(work.every[c] - work.failed[c])
        values = work.latencies[c, : min(count, LISTED)]
        late, slow = np.int64(0), np.int64(0)
        if count > 0:
            origin, width = composed.origin[c], composed.width[c]
            measured_levels(composed, c, waves, work.inflation[c], count, streams, work.bridge, upto)
            list_latencies(origin, width, upto, count, streams, values, work.bin_of)
            if len(values) == count:
                late, slow = count - within(values, deadline_ms[c]), count - within(values, sla_ms)
            else:
                late = np.int64(np.rint(count * share_above(origin, width, upto, deadline_ms[c])))
                slow = np.int64(np.rint(count * share_above(origin, width, upto, sla_ms)))
        work.listed[c] = within(values, deadline_ms[c])
        tally.ended[c] += np.int64(work.every[c])
        tally.failed[c] += np.int64(work.failed[c]) + late
        tally.slow[c] += np.int64(work.failed[c]) + max(slow, late)


@kernel
def class_inflation(kinds, fleet, rates, losses, runs, composed, excess, inflation):
    """How much larger the variance of a mean over a control interval is than with independent requests.

    `inflation` (C,) and `excess` (K,) are overwritten.
    """
    n_kinds = len(kinds.microservice)
    excess[:] = 0.0
    for k in range(n_kinds):
        total, following = 0.0, fleet.kind_begin[k]
        while following < fleet.kind_begin[k + 1]:
            i = following
            following += runs[i]
            rate = rates[i] * runs[i]
            total += rate
            if rate > 0.0:
                excess[k] += rate * kinds.groups[k] * losses[i, DEVIATION] ** 2 * max(0.0, losses[i, INFLATION] - 1.0)
        excess[k] = excess[k] / total if total > 0.0 else 0.0
    inflation[:] = 1.0
    for c in range(len(kinds.root)):
        _, variance = moments(composed, c)
        if variance > 0.0:
            for k in range(n_kinds):
                inflation[c] += kinds.visits[c, k] * excess[k] / variance


@kernel
def failures(streams, ended, chances):
    """How many of the requests of each class fail: `chances` (C,) become numbers."""
    for c in range(len(ended)):
        chances[c] = min(ended[c], poisson(streams, DELAYS, ended[c] * chances[c]))
