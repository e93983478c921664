"""The samplers of compiled code draw from the distributions that they name."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy import stats

from imbres_gym.sim.random import exponential, gamma, normal, seeded_streams, uniform

N = 200_000
ALPHA = 1e-4
"""Chance of a false alarm of each test, for the seeds that are fixed here."""


@njit
def draw(streams, kind, shape, mean, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        if kind == 0:
            out[i] = uniform(streams, 0)
        elif kind == 1:
            out[i] = exponential(streams, 0, mean)
        elif kind == 2:
            out[i] = normal(streams, 0)
        else:
            out[i] = gamma(streams, 0, shape, mean)


def sample(kind: int, shape: float = 1.0, mean: float = 1.0, seed: int = 91) -> np.ndarray:
    out = np.empty(N)
    draw(seeded_streams(seed), kind, shape, mean, out)
    return out


@pytest.mark.parametrize(
    ("kind", "shape", "mean", "law"),
    [
        (0, 1.0, 1.0, stats.uniform()),
        (1, 1.0, 2.5, stats.expon(scale=2.5)),
        (2, 1.0, 1.0, stats.norm()),
        (3, 1.0, 2.0, stats.expon(scale=2.0)),
        (3, 0.5, 2.0, stats.gamma(0.5, scale=4.0)),
        (3, 3.0, 0.3, stats.gamma(3.0, scale=0.1)),
        (3, 5.5, 1.0, stats.gamma(5.5, scale=1.0 / 5.5)),
        (3, 100.0, 7.0, stats.gamma(100.0, scale=0.07)),
    ],
)
def test_samplers_follow_their_law(kind: int, shape: float, mean: float, law: stats.rv_frozen) -> None:
    values = sample(kind, shape, mean)
    assert stats.kstest(values, law.cdf).pvalue > ALPHA
    standard_error = law.std() / np.sqrt(N)
    assert abs(values.mean() - law.mean()) < 4.0 * standard_error
    # The tail matters more than a KS test sees: count what lies beyond the 99.9th percentile.
    beyond = int((values > law.ppf(0.999)).sum())
    assert stats.binomtest(beyond, N, 0.001).pvalue > ALPHA


def test_streams_are_independent_and_repeatable() -> None:
    assert np.array_equal(sample(0), sample(0))
    assert not np.array_equal(sample(0), sample(0, seed=92))
    streams = seeded_streams(5)
    assert len(set(streams.tolist())) == len(streams)
    values = sample(0)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4.0 / np.sqrt(N)
