"""Load shifting with a bound: where containers are full, shares do not grow; elsewhere it is Algorithm 1."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given
from hypothesis import strategies as st

from agents.load.bounded import BoundedImbresLoad, hold
from agents.load.imbres import ImbresLoad
from imbres_gym.config import ConfigError

HOSTS = 4
shares = st.lists(st.floats(0.01, 1.0), min_size=HOSTS, max_size=HOSTS).map(lambda row: np.array([row]) / sum(row))
marks = st.lists(st.booleans(), min_size=HOSTS, max_size=HOSTS).map(lambda row: np.array([row]))
SLOW_AND_FAST = [[30.0, 10.0, 10.0]]


def proposals(policy: ImbresLoad, cpu: list[float], steps: int = 5) -> list[np.ndarray]:
    info = make_info(microservices=1, hosts=3)
    policy.reset(info, seed=0)
    seen = make_observation(info, [[2, 2, 2]], own_latency_ms=SLOW_AND_FAST, cpu_utilisation=[cpu])
    return [policy.propose(seen)[0] for _ in range(steps)]


def test_below_the_limit_it_is_the_papers_algorithm() -> None:
    np.testing.assert_array_equal(
        proposals(BoundedImbresLoad(cpu_limit=0.5), [0.49] * 3), proposals(ImbresLoad(), [0.49] * 3)
    )


def test_a_full_host_gets_no_more_and_the_others_take_it() -> None:
    rows = proposals(BoundedImbresLoad(cpu_limit=0.5), [0.2, 0.5, 0.2])
    assert all(row[1] == pytest.approx(1.0 / 3.0) for row in rows)
    assert np.all(np.diff([row[2] for row in rows]) > 0.0)
    assert np.all(np.diff([row[0] for row in rows]) < 0.0)


def test_where_everybody_is_full_load_stays() -> None:
    assert proposals(BoundedImbresLoad(), [0.9] * 3)[-1] == pytest.approx([1.0 / 3.0] * 3)


@given(shares, shares, marks)
def test_shares_stay_shares_and_full_ones_do_not_grow(before: np.ndarray, after: np.ndarray, full: np.ndarray) -> None:
    held = hold(before, after, full)
    assert held.sum() == pytest.approx(1.0)
    assert np.all(held > 0.0)
    assert np.all(held[full] <= before[full])
    if not full.any():
        np.testing.assert_allclose(held, after)


@pytest.mark.parametrize("cpu_limit", [0.0, 1.5])
def test_a_limit_is_a_share_of_the_quota(cpu_limit: float) -> None:
    with pytest.raises(ConfigError, match="cpu_limit"):
        BoundedImbresLoad(cpu_limit=cpu_limit)
