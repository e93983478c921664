"""Random numbers for compiled code: SplitMix64 streams whose state is one uint64 each, so that it can be saved."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined

ARRIVALS, DEMAND, ROUTING, DELAYS = range(4)
"""Streams: agents that are compared on one seed see the same arrivals whatever they decide."""

N_STREAMS = 4


def seeded_streams(seed: int) -> NDArray[np.uint64]:
    """State of the streams for a seed: shape (4,) uint64."""
    return np.random.SeedSequence(seed).generate_state(N_STREAMS, np.uint64).astype(np.uint64)


@inlined
def uniform(streams, stream):
    """A float in (0, 1] (Steele, Lea and Flood 2014; constants of Vigna's splitmix64)."""
    state = streams[stream] + np.uint64(0x9E3779B97F4A7C15)
    streams[stream] = state
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 1.0) * (1.0 / 9007199254740992.0)


@inlined
def exponential(streams, stream, mean):
    """An exponential variate."""
    return -mean * math.log(uniform(streams, stream))


@inlined
def normal(streams, stream):
    """A standard normal variate (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(uniform(streams, stream)))
    return radius * math.cos(2.0 * math.pi * uniform(streams, stream))


@inlined
def gamma(streams, stream, shape, mean):
    """A Gamma variate of given shape and mean (Marsaglia and Tsang 2000); shape 1 is exponential."""
    if shape == 1.0:
        return exponential(streams, stream, mean)
    boost = 1.0
    k = shape
    if k < 1.0:
        boost = uniform(streams, stream) ** (1.0 / k)
        k += 1.0
    d = k - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = normal(streams, stream)
        v = (1.0 + c * x) ** 3
        if v > 0.0 and math.log(uniform(streams, stream)) < 0.5 * x * x + d - d * v + d * math.log(v):
            return d * v * boost * mean / shape
