"""Random numbers for compiled code: SplitMix64 streams whose state is one uint64 each, so that it can be saved.

Exponential and normal variates come from the ziggurat of Marsaglia and Tsang (2000): the area under the density is cut
into 256 layers of equal area, and 98 of 100 draws hit the part of a layer where nothing needs to be computed. The law
is exact.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined

ARRIVALS, DEMAND, ROUTING, DELAYS, TRACES = range(5)
"""Streams: agents that are compared on one seed see the same arrivals whatever they decide."""

N_STREAMS = 5

LAYERS = 256

MAX_TERMS = 4
"""A Gamma variate of integer shape up to this is a sum of exponential ones."""

Tables = tuple[NDArray[np.float64], NDArray[np.uint64], NDArray[np.float64]]


def _ziggurat(
    density: Callable[[float], float], inverse: Callable[[float], float], tail: float, tail_area: float
) -> Tables:
    """Layers under a falling density with maximum 1, from the bottom: width / 2**53, sure hits of 2**53, lower height.

    Layer 0 holds the tail beyond `tail`; its width is that of a rectangle of the same area.
    """
    area = tail * density(tail) + tail_area
    edge = [area / density(tail), tail]
    while len(edge) < LAYERS:
        edge.append(inverse(density(edge[-1]) + area / edge[-1]))
    right = np.array([*edge, 0.0])
    height = np.array([density(x) for x in right])
    return right[:-1] / 2.0**53, (right[1:] / right[:-1] * 2.0**53).astype(np.uint64), height


EXPONENTIAL_TAIL = 7.69711747013104972  # these put the top of the last layer at 1 (Marsaglia and Tsang 2000)
NORMAL_TAIL = 3.6541528853610088

EXPONENTIAL_WIDTH, EXPONENTIAL_SURE, EXPONENTIAL_HEIGHT = _ziggurat(
    lambda x: math.exp(-x), lambda y: -math.log(y), EXPONENTIAL_TAIL, math.exp(-EXPONENTIAL_TAIL)
)
NORMAL_WIDTH, NORMAL_SURE, NORMAL_HEIGHT = _ziggurat(
    lambda x: math.exp(-0.5 * x * x),
    lambda y: math.sqrt(-2.0 * math.log(y)),
    NORMAL_TAIL,
    math.sqrt(0.5 * math.pi) * math.erfc(NORMAL_TAIL / math.sqrt(2.0)),
)


def seeded_streams(seed: int) -> NDArray[np.uint64]:
    """State of the streams for a seed: shape (5,) uint64."""
    return np.random.SeedSequence(seed).generate_state(N_STREAMS, np.uint64).astype(np.uint64)


@inlined
def bits(streams, stream):
    """64 random bits (Steele, Lea and Flood 2014; constants of Vigna's splitmix64)."""
    state = streams[stream] + np.uint64(0x9E3779B97F4A7C15)
    streams[stream] = state
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inlined
def uniform(streams, stream):
    """A float in (0, 1]."""
    return (np.float64(bits(streams, stream) >> np.uint64(11)) + 1.0) * (1.0 / 9007199254740992.0)


@inlined
def below(streams, stream, n):
    """One of 0, 1, ... n - 1, each alike."""
    return int((1.0 - uniform(streams, stream)) * n)


@inlined
def exponential(streams, stream, mean):
    """An exponential variate."""
    before = 0.0
    while True:
        z = bits(streams, stream)
        layer = np.int64(z & np.uint64(255))
        z >>= np.uint64(11)
        x = np.float64(z) * EXPONENTIAL_WIDTH[layer]
        if z < EXPONENTIAL_SURE[layer]:
            return mean * (before + x)
        if layer == 0:
            before += EXPONENTIAL_TAIL  # beyond it the law is the same again
        elif in_wedge(streams, stream, EXPONENTIAL_HEIGHT, layer, math.exp(-x)):
            return mean * (before + x)


@inlined
def normal(streams, stream):
    """A standard normal variate."""
    while True:
        z = bits(streams, stream)
        layer = np.int64(z & np.uint64(255))
        sign = 1.0 - np.float64((z >> np.uint64(7)) & np.uint64(2))
        z >>= np.uint64(11)
        x = np.float64(z) * NORMAL_WIDTH[layer]
        if z < NORMAL_SURE[layer]:
            return sign * x
        if layer == 0:
            return sign * normal_tail(streams, stream)
        if in_wedge(streams, stream, NORMAL_HEIGHT, layer, math.exp(-0.5 * x * x)):
            return sign * x


@inlined
def in_wedge(streams, stream, height, layer, density):
    """Whether a point at the edge of a layer is under the density."""
    return height[layer] + uniform(streams, stream) * (height[layer + 1] - height[layer]) < density


@inlined
def normal_tail(streams, stream):
    """A normal variate beyond `NORMAL_TAIL` (Marsaglia 1964)."""
    while True:
        x = exponential(streams, stream, 1.0 / NORMAL_TAIL)
        if 2.0 * exponential(streams, stream, 1.0) > x * x:
            return NORMAL_TAIL + x


@inlined
def gamma(streams, stream, shape, mean):
    """A Gamma variate of given shape and mean; shape 1 is exponential.

    A small integer shape is a sum of exponential variates, others follow Marsaglia and Tsang (2000, "A simple method
    for generating gamma variables") with their squeeze.
    """
    if shape <= MAX_TERMS and shape == math.floor(shape):
        total = exponential(streams, stream, 1.0)
        for _ in range(int(shape) - 1):
            total += exponential(streams, stream, 1.0)
        return total * mean / shape
    boost = 1.0
    k = shape
    if k < 1.0:
        boost = uniform(streams, stream) ** (1.0 / k)
        k += 1.0
    d = k - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = normal(streams, stream)
        root = 1.0 + c * x
        if root <= 0.0:
            continue
        v = root * root * root
        u = uniform(streams, stream)
        if u < 1.0 - 0.0331 * x * x * x * x or math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
            return d * v * boost * mean / shape
