"""The heap of Algorithm 3 decides as the loop that is printed in the paper."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.scaling.per_microservice import Floats, Ints, Latency, scale_at_random, scale_microservices

BOUNDS = (1, 12)
NO_LOAD = np.zeros(3)
NO_LIMIT = np.full(3, np.inf)


def naive(dR: int, C: Ints, phi: Latency, rho: Floats, alpha: Floats) -> Ints:
    """Lines 3-12 with an argmax over all microservices in every iteration."""
    C = C.copy()
    f = 1 if dR > 0 else -1
    for _ in range(abs(dR)):
        scores = {
            i: (alpha[i] * (phi(i, rho[i] / C[i]) - phi(i, rho[i] / (C[i] + f))), f * (rho[i] / C[i]), -i)
            for i in range(len(C))
            if BOUNDS[0] <= C[i] + f <= BOUNDS[1]
        }
        if not scores:
            break
        C[max(scores, key=lambda i: scores[i])] += f
    return C


microservice = st.tuples(
    st.integers(1, 12), st.floats(0.0, 100.0), st.floats(1.0, 3.0), st.integers(0, 3), st.integers(0, 3)
)


@settings(max_examples=200, deadline=None)
@given(st.integers(-30, 30), st.lists(microservice, min_size=1, max_size=6))
def test_the_heap_equals_the_loop(dR: int, microservices: list[tuple[int, float, float, int, int]]) -> None:
    C, rho, alpha = (np.array([m[k] for m in microservices]) for k in range(3))

    def phi(i: int, w: float) -> float:
        return float(microservices[i][3] * w + microservices[i][4] * w**2)

    wanted = scale_microservices(dR, C, phi, rho, alpha, BOUNDS, np.full(len(C), np.inf))
    assert wanted.tolist() == naive(dR, C, phi, rho, alpha).tolist()
    room = (BOUNDS[1] - C).sum() if dR > 0 else (C - BOUNDS[0]).sum()
    assert abs(int(wanted.sum() - C.sum())) == min(abs(dR), room)


def test_only_the_chosen_microservice_is_looked_at_again() -> None:
    calls = 0

    def phi(i: int, w: float) -> float:
        nonlocal calls
        calls += 1
        return w

    count, dR = 50, 20
    scale_microservices(dR, np.full(count, 2), phi, np.ones(count), np.ones(count), (1, 50), np.full(count, np.inf))
    assert calls == 2 * (count + dR)


def test_random_selection_spreads_evenly_and_stays_within_bounds() -> None:
    rng = np.random.default_rng(7)
    grown = scale_at_random(3000, np.ones(3, np.int64), rng, NO_LOAD, (1, 5000), NO_LIMIT)
    # Binomial with mean 1000 and deviation 26: four deviations.
    assert np.all(np.abs(grown - 1001) < 104)
    assert scale_at_random(100, np.ones(3, np.int64), rng, NO_LOAD, (1, 4), NO_LIMIT).tolist() == [4, 4, 4]
    assert scale_at_random(-100, np.full(3, 9), rng, NO_LOAD, (2, 9), NO_LIMIT).tolist() == [2, 2, 2]
    # 6 requests/s need two containers of at most 3 requests/s.
    assert scale_at_random(-100, np.full(3, 9), rng, np.array([6.0, 6.0, 0.0]), (1, 9), np.full(3, 3.0)).tolist() == [
        2,
        2,
        1,
    ]
