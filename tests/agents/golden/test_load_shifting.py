"""Algorithm 1 worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation

from agents.load.imbres import ImbresLoad
from imbres_gym.plan import carry_over


def test_two_steps_of_algorithm_1() -> None:
    info = make_info(microservices=1)
    policy = ImbresLoad(eta=0.2)
    policy.reset(info, seed=0)
    # D = (0.5, 0.5), l = (30, 10): l_mean = 20, l_hat = (0.5, 0.5), F = (-1, 1)
    # D = (0.5 * (1 - 0.2 * 0.5), 0.5 * (1 + 0.2 * 0.5)) = (0.45, 0.55), which sums to 1.
    first = policy.propose(make_observation(info, [[2, 2]], own_latency_ms=[[30.0, 10.0]]))
    assert first[0] == pytest.approx([0.45, 0.55])
    # l = (24, 16): l_mean = 20, l_hat = (0.2, 0.2)
    # D = (0.45 * 0.96, 0.55 * 1.04) = (0.432, 0.572), divided by 1.004.
    second = policy.propose(make_observation(info, [[2, 2]], own_latency_ms=[[24.0, 16.0]]))
    assert second[0] == pytest.approx([0.432 / 1.004, 0.572 / 1.004])


def test_the_start_is_balanced_over_containers() -> None:
    info = make_info(microservices=1)
    policy = ImbresLoad()
    policy.reset(info, seed=0)
    # Equal latencies leave D = S / sum S = (3/4, 1/4) as it is.
    assert policy.propose(make_observation(info, [[3, 1]]))[0] == pytest.approx([0.75, 0.25])


def test_every_host_counts_alike_in_the_mean() -> None:
    info = make_info(microservices=1)
    policy = ImbresLoad(eta=0.2)
    policy.reset(info, seed=0)
    # S = (3, 1), l = (10, 30): l_mean = 20 (line 6), not 15; D = (0.75 * 1.1, 0.25 * 0.9) / 1.05.
    proposal = policy.propose(make_observation(info, [[3, 1]], own_latency_ms=[[10.0, 30.0]]))
    assert proposal[0] == pytest.approx([0.825 / 1.05, 0.225 / 1.05])


def test_the_tail_can_be_equalised_instead() -> None:
    info = make_info(microservices=1)
    policy = ImbresLoad(statistic="p95")
    policy.reset(info, seed=0)
    observation = make_observation(info, [[2, 2]], own_latency_ms=[[10.0, 30.0]], own_p95_ms=[[30.0, 10.0]])
    assert policy.propose(observation)[0] == pytest.approx([0.45, 0.55])


def test_weights_per_container_survive_scaling() -> None:
    D = np.array([[0.45, 0.55]])
    # Weights per container (0.225, 0.275); with (4, 2) containers (0.9, 0.55), divided by 1.45.
    grown = carry_over(D, np.array([[2.0, 2.0]]), np.array([[4.0, 2.0]]))
    assert grown[0] == pytest.approx([0.9 / 1.45, 0.55 / 1.45])


def test_a_new_host_gets_the_mean_weight() -> None:
    D = np.array([[0.45, 0.55, 0.0]])
    # Weights (0.225, 0.275) and their mean over the four containers, 0.25: (0.45, 0.55, 0.25) / 1.25.
    joined = carry_over(D, np.array([[2.0, 2.0, 0.0]]), np.array([[2.0, 2.0, 1.0]]))
    assert joined[0] == pytest.approx([0.36, 0.44, 0.2])
