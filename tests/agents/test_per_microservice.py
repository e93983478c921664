"""The heap of Algorithm 3 decides as the loop that is printed in the paper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.scaling.per_microservice import Floats, Ints, scale_at_random, scale_microservices

BOUNDS = (1, 12)
NO_LOAD = np.zeros(3)
NO_LIMIT = np.full(3, np.inf)


def naive(dR: int, C: Ints, phi: Callable[[int, float], float], rho: Floats, alpha: Floats, w_max: Floats) -> Ints:
    """Lines 3-12 with an argmax over all microservices in every iteration."""
    C = C.copy()
    f = 1 if dR > 0 else -1
    for _ in range(abs(dR)):
        scores = {
            i: (alpha[i] * (phi(i, rho[i] / C[i]) - phi(i, rho[i] / (C[i] + f))), f * (rho[i] / C[i]), -i)
            for i in range(len(C))
            if BOUNDS[0] <= C[i] + f <= BOUNDS[1] and (f > 0 or rho[i] <= w_max[i] * (C[i] - 1))
        }
        if not scores:
            break
        C[max(scores, key=lambda i: scores[i])] += f
    return C


def nothing(i: Ints, w: Floats) -> Floats:
    """An empty table."""
    return np.zeros(len(w))


microservice = st.tuples(
    st.integers(1, 12),
    st.one_of(st.floats(0.0, 100.0), st.integers(0, 12).map(lambda tenths: tenths * 0.1)),
    st.floats(1.0, 3.0),
    st.one_of(st.just(np.inf), st.just(0.0), st.just(0.1), st.floats(0.1, 100.0)),
    st.integers(0, 3),
    st.integers(0, 3),
)


@settings(max_examples=200, deadline=None)
@given(st.integers(-30, 30), st.lists(microservice, min_size=1, max_size=6))
def test_the_heap_equals_the_loop(dR: int, microservices: list[tuple[int, float, float, float, int, int]]) -> None:
    C, rho, alpha, w_max = (np.array([m[k] for m in microservices]) for k in range(4))

    def phi(i: int, w: float) -> float:
        return float(microservices[i][4] * w + microservices[i][5] * w * w)

    def in_batch(i: Ints, w: Floats) -> Floats:
        return np.array([phi(*question) for question in zip(i.tolist(), w.tolist(), strict=True)])

    wanted = scale_microservices(dR, C, in_batch, rho, alpha, BOUNDS, w_max)
    assert wanted.tolist() == naive(dR, C, phi, rho, alpha, w_max).tolist()
    if dR > 0:
        assert int(wanted.sum() - C.sum()) == min(dR, (BOUNDS[1] - C).sum())


def test_one_microservice_can_get_all() -> None:
    # Only microservice 7 gains: 40 are more than are computed for it at first.
    def phi(i: Ints, w: Floats) -> Floats:
        return np.where(i == 7, w, 0.0)

    rho, count = np.ones(50), np.full(50, 2)
    wanted = scale_microservices(40, count, phi, rho, np.ones(50), (1, 50), np.full(50, np.inf))
    assert wanted.tolist() == [2] * 7 + [42] + [2] * 42


def test_the_largest_load_that_a_container_supports_is_met_exactly() -> None:
    # In floating point 0.1 * 3 / 0.1 is more than 3, and three containers are enough all the same.
    for needed in range(1, 11):
        rho = np.array([0.1 * needed])
        left = scale_microservices(-50, np.array([40]), nothing, rho, np.ones(1), (1, 50), np.array([0.1]))
        assert left.tolist() == [needed]


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
