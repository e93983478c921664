"""The matching of section 4.2.2 worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import match_shares

from imbres_gym.plan import Links


def edges(links: Links) -> dict[tuple[int, int], float]:
    return {(int(u), int(d)): float(w) for u, d, w in zip(links.upstream, links.downstream, links.weight, strict=True)}


def test_the_strongest_upstream_serves_the_weakest_downstream() -> None:
    # Upstream, falling: 1 (0.5), 2 (0.3), 3 (0.2). Downstream, rising: 7 (0.2), 8 (0.3), 9 (0.5).
    # 1-7 takes 0.2, 1-8 takes 0.3 and 1 is done; 2-9 takes 0.3; 3-9 takes 0.2.
    links = match_shares(np.array([3, 1, 2]), np.array([0.2, 0.5, 0.3]), np.array([9, 8, 7]), np.array([0.5, 0.3, 0.2]))
    assert edges(links) == pytest.approx({(1, 7): 0.4, (1, 8): 0.6, (2, 9): 1.0, (3, 9): 1.0})


def test_what_is_left_of_one_goes_to_the_next() -> None:
    # 1 (0.6) fills 7 (0.5) and has 0.1 left for 8, which takes all of 2 (0.4).
    links = match_shares(np.array([1, 2]), np.array([0.6, 0.4]), np.array([7, 8]), np.array([0.5, 0.5]))
    assert edges(links) == pytest.approx({(1, 7): 5 / 6, (1, 8): 1 / 6, (2, 8): 1.0})


def test_equal_shares_are_matched_one_to_one_by_id() -> None:
    links = match_shares(np.array([5, 4]), np.array([1.0, 1.0]), np.array([9, 8]), np.array([1.0, 1.0]))
    assert edges(links) == pytest.approx({(4, 8): 1.0, (5, 9): 1.0})


def test_an_upstream_container_without_load_is_connected_all_the_same() -> None:
    links = match_shares(np.array([1, 2]), np.array([1.0, 0.0]), np.array([7, 8]), np.array([0.5, 0.5]))
    assert set(links.upstream.tolist()) == {1, 2}
