"""Algorithm 3 worked by hand: two microservices, phi_0(w) = w and phi_1(w) = 3 w, 12 requests/s each, C = (2, 3)."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation

from agents.scaling.per_microservice import Floats, Ints, imbalance_index, scale_microservices

C = np.array([2, 3])
RHO = np.array([12.0, 12.0])
BOUNDS = (1, 50)
EVEN = np.ones(2)
NO_LIMIT = np.full(2, np.inf)


def phi(i: Ints, w: Floats) -> Floats:
    return np.where(i == 0, w, 3.0 * w)


def nothing_known(i: Ints, w: Floats) -> Floats:
    return np.zeros(len(w))


def test_scaling_out_picks_the_largest_gain_each_time() -> None:
    # g = (6 - 4, 3 (4 - 3)) = (2, 3): microservice 1. Then g_1 = 3 (3 - 2.4) = 1.8 < 2: microservice 0.
    assert scale_microservices(1, C, phi, RHO, EVEN, BOUNDS, NO_LIMIT).tolist() == [2, 4]
    assert scale_microservices(2, C, phi, RHO, EVEN, BOUNDS, NO_LIMIT).tolist() == [3, 4]


def test_imbalance_makes_a_microservice_critical() -> None:
    # G = (2 * 2, 3): microservice 0.
    assert scale_microservices(1, C, phi, RHO, np.array([2.0, 1.0]), BOUNDS, NO_LIMIT).tolist() == [3, 3]


def test_scaling_in_spares_the_imbalanced() -> None:
    # g = (6 - 12, 3 (4 - 6)) = (-6, -6); with alpha = (1, 2) it is (-6, -12): microservice 0 loses one.
    assert scale_microservices(-1, C, phi, RHO, np.array([1.0, 2.0]), BOUNDS, NO_LIMIT).tolist() == [1, 3]


def test_ties_go_by_load_per_container() -> None:
    # g = (-6, -6): the load per container is (6, 4), so the one with less of it loses a container.
    assert scale_microservices(-1, C, phi, RHO, EVEN, BOUNDS, NO_LIMIT).tolist() == [2, 2]
    # Without a table: 6 > 4 gets one (then 4 = 4 goes to the first), and 4 < 6 loses one.
    assert scale_microservices(1, C, nothing_known, RHO, EVEN, BOUNDS, NO_LIMIT).tolist() == [3, 3]
    assert scale_microservices(-1, C, nothing_known, RHO, EVEN, BOUNDS, NO_LIMIT).tolist() == [2, 2]


def test_nobody_leaves_the_bounds() -> None:
    assert scale_microservices(-9, C, phi, RHO, EVEN, BOUNDS, NO_LIMIT).tolist() == [1, 1]
    assert scale_microservices(9, C, phi, RHO, EVEN, (1, 4), NO_LIMIT).tolist() == [4, 4]
    assert scale_microservices(0, C, phi, RHO, EVEN, BOUNDS, NO_LIMIT).tolist() == [2, 3]


def test_no_container_is_taken_that_would_leave_the_others_above_their_maximum_load() -> None:
    # Removing one costs (6, 6): a tie that microservice 1 wins by its lighter load (4 < 6). With at most 5 requests/s
    # per container it needs 3 (12 / 2 = 6 > 5), and so does microservice 0 (12 / 1 > 5): nothing can be taken.
    assert scale_microservices(-1, C, phi, RHO, EVEN, BOUNDS, np.array([np.inf, 5.0])).tolist() == [1, 3]
    assert scale_microservices(-1, C, phi, RHO, EVEN, BOUNDS, np.array([5.0, 5.0])).tolist() == [2, 3]
    assert scale_microservices(-1, C, phi, RHO, EVEN, BOUNDS, np.array([12.0, 5.0])).tolist() == [1, 3]


def test_imbalance_index() -> None:
    info = make_info(microservices=3, hosts=3)
    # D = (0.75, 0.25) on two hosts: mean 0.5, sigma 0.25, alpha = 1 + 0.25 * 2 / 1 = 1.5. Evenly: 1. None ready: 1.
    observation = make_observation(
        info,
        [[1, 1, 0], [1, 1, 1], [0, 0, 0]],
        proportions=[[0.75, 0.25, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.0, 0.0]],
    )
    assert imbalance_index(observation) == pytest.approx([1.5, 1.0, 1.0])
