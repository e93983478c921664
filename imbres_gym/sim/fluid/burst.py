"""What one CPU burst of a call waits, as a distribution: its loss to the quota, and scheduling delays, compiled."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.fluid.histogram import NODES, spread_evenly
from imbres_gym.sim.fluid.surfaces import LEVELS

Floats = NDArray[np.float64]

N_LEVELS = len(LEVELS)
RAREST = N_LEVELS - 1
"""The last tabulated quantile: how far a histogram must reach."""


class Burst(NamedTuple):
    """What a burst of one kind waits, as distributions (NODES,)."""

    lost: Floats  # to the quota
    once: Floats  # and after one scheduling delay
    twice: Floats  # and after two
    delay: Floats  # one delay alone
    delays: Floats  # two


def new_burst() -> Burst:
    """Room for the bursts of one kind."""
    return Burst._make(np.zeros(NODES) for _ in Burst._fields)


@inlined
def mixture(kinds, k, fleet, stations, rates, losses, runs, rate, step, out, room):
    """What a burst of kind k loses, over all containers: between two quantiles a distribution is even.

    `out` is overwritten, and `room` (SCRATCH,) is used.
    """
    slope, per_ms, places = 0.0, 1.0 / step, room[NODES : NODES + N_LEVELS]
    density = room[:NODES]
    out[:] = 0.0
    density[:] = 0.0
    shift, following = fleet.begin[kinds.microservice[k]] - fleet.kind_begin[k], fleet.kind_begin[k]
    while following < fleet.kind_begin[k + 1]:
        i, container = following, shift + following
        following += runs[i]
        if rates[i] <= 0.0:
            continue
        share = rates[i] * runs[i] / rate
        one, other = stations.extra_from[container], stations.extra_to[container]
        begin, grows = min(one, other), abs(one - other)
        for j in range(len(places)):
            places[j] = min((losses[i, j] + begin + grows * (1.0 - LEVELS[j])) * per_ms, NODES - 1.0)
        low, tail = min(begin * per_ms, NODES - 1.0), 1.0
        for j in range(N_LEVELS):
            high = max(low, places[j])
            spread_evenly(share * (tail - LEVELS[j]), low, high, out, density)
            low, tail = high, LEVELS[j]
        most = min((losses[i, RAREST] + begin + grows) * per_ms, NODES - 1.0)
        spread_evenly(share * tail, low, max(low, most), out, density)
    for j in range(NODES):
        slope += density[j]
        out[j] += slope


@inlined
def waits(burst, loses, busy, preempted, out):
    """What a burst waits that loses to the quota, and is delayed for each of two reasons, with these chances."""
    never, once, twice = (1.0 - busy) * (1.0 - preempted), busy + preempted - 2.0 * busy * preempted, busy * preempted
    saved = 1.0 - loses
    for j in range(NODES):
        out[j] = loses * (never * burst.lost[j] + once * burst.once[j] + twice * burst.twice[j]) + saved * (
            once * burst.delay[j] + twice * burst.delays[j]
        )
    out[0] += saved * never
