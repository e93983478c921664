"""Fewest connections, and fixed weights: exact shares from few links."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.connections.fewest import FewestConnections
from agents.load.fixed_weights import FixedWeights
from imbres_gym.config import ConfigError

COUNTS = st.tuples(*[st.integers(1, 6)] * 4)


@settings(deadline=None)
@given(counts=COUNTS, weight=st.floats(0.1, 10.0))
def test_few_links_carry_the_shares_exactly(counts: tuple[int, int, int, int], weight: float) -> None:
    info = make_info()
    observation = make_observation(info, [counts[:2], counts[2:]])
    load, connections = FixedWeights(weights=[[1.0, weight], [weight, 1.0]]), FewestConnections()
    load.reset(info, 0)
    connections.reset(info, 0)
    proportions = load.propose(observation)
    np.testing.assert_allclose(proportions.sum(axis=1), 1.0)
    up, down = sum(counts[:2]), sum(counts[2:])
    links = connections.connect(observation, proportions).links[0]
    assert len(links) <= up + down - 1
    # Ids are given in the order microservice, host: see `make_observation`.
    sent = np.repeat(proportions[0] / counts[:2], counts[:2])
    received = np.bincount(links.downstream - up, sent[links.upstream] * links.weight, down)
    np.testing.assert_allclose(received, np.repeat(proportions[1] / counts[2:], counts[2:]), atol=1e-6)


def test_weights_are_per_container() -> None:
    info = make_info(microservices=1)
    policy = FixedWeights(weights=[[2.0, 1.0]])
    policy.reset(info, 0)
    # 1 container of weight 2, 3 of weight 1.
    np.testing.assert_allclose(policy.propose(make_observation(info, [[1, 3]])), [[0.4, 0.6]])
    np.testing.assert_allclose(policy.propose(make_observation(info, [[0, 3]])), [[0.0, 1.0]])


@pytest.mark.parametrize("weights", [[[1.0, 1.0]], [[1.0], [1.0, 2.0]], [[1.0, -1.0], [1.0, 1.0]]])
def test_wrong_weights_are_refused(weights: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match="weights"):
        FixedWeights(weights=weights).reset(make_info(), 0)
