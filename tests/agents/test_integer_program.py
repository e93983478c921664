"""The integer program finds fewer connections than the heuristic, or falls back to it."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation, match_shares

from agents.connections import integer_program
from agents.connections.integer_program import IntegerProgramConnections, fewest_links
from imbres_gym.config import ConfigError

UP, DOWN = np.array([1, 2, 3]), np.array([7, 8, 9])
SHARE = np.array([0.5, 0.3, 0.2])


def test_equal_shares_are_paired() -> None:
    # The heuristic pairs the largest with the smallest and needs 4 links; 1-7, 2-8, 3-9 are enough.
    assert len(match_shares(UP, SHARE, DOWN, SHARE)) == 4
    links = fewest_links(UP, SHARE, DOWN, SHARE, time_limit_s=10.0)
    assert sorted(zip(links.upstream.tolist(), links.downstream.tolist(), strict=True)) == [(1, 7), (2, 8), (3, 9)]
    assert links.weight == pytest.approx(np.ones(3))


def test_every_downstream_container_receives_its_share() -> None:
    # Two blocks with equal sums, 0.5 + 0.1 = 0.35 + 0.25 and 0.4 = 0.4: 2 + 2 - 1 links and one.
    sent, wanted = np.array([0.5, 0.1, 0.4]), np.array([0.4, 0.35, 0.25])
    links = fewest_links(UP, sent, DOWN, wanted, time_limit_s=10.0)
    assert len(links) == 4
    result = np.bincount(links.downstream, sent[links.upstream - 1] * links.weight, minlength=10)[7:]
    assert result == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_without_time_the_heuristic_is_used(limit: float) -> None:
    links = fewest_links(UP, SHARE, DOWN, SHARE, time_limit_s=limit)
    assert links.downstream.tolist() == match_shares(UP, SHARE, DOWN, SHARE).downstream.tolist()


def test_without_a_solution_the_heuristic_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_program, "_solve", lambda sent, received, limit: None)
    assert len(fewest_links(UP, SHARE, DOWN, SHARE, time_limit_s=10.0)) == 4


def test_an_unchanged_pair_is_not_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    info = make_info(hosts=3)
    policy = IntegerProgramConnections(time_limit_s=10.0)
    policy.reset(info, seed=0)
    observation = make_observation(info, [[1, 1, 1], [1, 1, 1]])
    proportions = np.array([SHARE, SHARE])
    first = policy.connect(observation, proportions).links[0]
    assert len(first) == 3
    monkeypatch.setattr(integer_program, "_solve", lambda sent, received, limit: None)
    assert policy.connect(observation, proportions).links[0] is first
    assert len(policy.connect(observation, proportions[:, ::-1]).links[0]) == 4


def test_the_time_limit_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="time_limit_s"):
        IntegerProgramConnections(time_limit_s=0.0)
