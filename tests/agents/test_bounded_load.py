"""Load shifting with a bound: no share grows beyond what its containers can carry; elsewhere it is Algorithm 1."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given
from hypothesis import strategies as st

from agents.load.bounded import BoundedImbresLoad, cut
from agents.load.imbres import ImbresLoad
from imbres_gym.config import ConfigError

HOSTS = 4
shares = st.lists(st.floats(0.01, 1.0), min_size=HOSTS, max_size=HOSTS).map(lambda row: np.array(row) / sum(row))
room = st.lists(st.sampled_from([1.0, 1.1, 2.0, np.inf]), min_size=HOSTS, max_size=HOSTS).map(np.array)
SLOW_AND_FAST = [[30.0, 10.0, 10.0]]


def proposals(policy: ImbresLoad, cpu: list[float], steps: int = 5) -> list[np.ndarray]:
    info = make_info(microservices=1, hosts=3)
    policy.reset(info, seed=0)
    seen = make_observation(info, [[2, 2, 2]], own_latency_ms=SLOW_AND_FAST, cpu_utilisation=[cpu])
    return [policy.propose(seen)[0] for _ in range(steps)]


def test_far_below_the_limit_it_is_the_papers_algorithm() -> None:
    np.testing.assert_allclose(
        proposals(BoundedImbresLoad(cpu_limit=0.5), [0.1] * 3), proposals(ImbresLoad(), [0.1] * 3), rtol=1e-15
    )


def test_a_full_host_gets_no_more_and_the_others_take_it() -> None:
    rows = proposals(BoundedImbresLoad(cpu_limit=0.5), [0.2, 0.5, 0.2])
    assert all(row[1] == pytest.approx(1.0 / 3.0) for row in rows)
    assert np.all(np.diff([row[2] for row in rows]) > 0.0)
    assert np.all(np.diff([row[0] for row in rows]) < 0.0)


def test_the_only_host_with_room_takes_no_more_than_it_has() -> None:
    # Algorithm 1 takes from the slow host more than the one below its limit may take: another tenth.
    cpu = [0.5, 0.5, 0.5 / 1.1]
    assert proposals(ImbresLoad(), cpu)[0][0] < 0.9 / 3.0
    assert proposals(BoundedImbresLoad(cpu_limit=0.5), cpu)[0] == pytest.approx([0.9 / 3.0, 1.0 / 3.0, 1.1 / 3.0])


def test_a_host_above_the_limit_comes_down_to_it_though_it_is_the_fastest() -> None:
    info = make_info(microservices=1, hosts=3)
    policy = BoundedImbresLoad(cpu_limit=0.5)
    policy.reset(info, seed=0)
    share, rows = np.full(3, 1.0 / 3.0), []
    for _ in range(3):
        use = 2.25 * share * [1.0, 0.5, 0.5]  # 0.75, 0.375 and 0.375 at first
        seen = make_observation(
            info, [[2, 2, 2]], own_latency_ms=[[10.0, 30.0, 30.0]], cpu_utilisation=[use], proportions=[share]
        )
        share = policy.propose(seen)[0]
        rows.append(2.25 * share * [1.0, 0.5, 0.5])
    assert rows[-1] == pytest.approx([0.5, 0.4375, 0.4375])


def test_the_mean_that_bounds_is_over_containers() -> None:
    # Two containers at 0.9 and one at 0.6: 0.8 each. Over hosts it would be 0.75, to which the first cannot come down.
    info = make_info(microservices=1, hosts=2)
    policy = BoundedImbresLoad(cpu_limit=0.5)
    policy.reset(info, seed=0)
    seen = make_observation(info, [[2, 1]], own_latency_ms=[[10.0, 10.0]], cpu_utilisation=[[0.9, 0.6]])
    assert policy.propose(seen)[0] == pytest.approx([0.8 / 0.9 * 2.0 / 3.0, 1.0 - 0.8 / 0.9 * 2.0 / 3.0])


def test_without_ready_containers_there_is_nothing_to_bound() -> None:
    info = make_info(microservices=2, hosts=2)
    policy = BoundedImbresLoad()
    policy.reset(info, seed=0)
    assert not policy.propose(make_observation(info, [[0, 0], [0, 0]])).any()


def test_above_the_limit_load_evens_out_around_the_mean() -> None:
    assert proposals(BoundedImbresLoad(), [0.9] * 3)[-1] == pytest.approx([1.0 / 3.0] * 3)
    # The mean is 0.8: the fast host at 0.76 may take a nineteenth, more than which the slow one would give.
    assert proposals(BoundedImbresLoad(), [0.84, 0.76, 0.8])[0] == pytest.approx(
        [18.0 / 57.0, 20.0 / 57.0, 19.0 / 57.0]
    )


@given(shares, shares, room)
def test_no_share_is_above_the_largest_and_the_order_of_the_others_stays(
    wanted: np.ndarray, before: np.ndarray, room: np.ndarray
) -> None:
    largest, one = before * room, np.zeros(HOSTS, np.int64)
    given = cut(wanted, largest, one)
    assert given.sum() == pytest.approx(1.0)
    assert np.all((given > 0.0) & (given <= largest))
    free = given < largest * (1.0 - 1e-9)
    factor = given[free] / wanted[free]
    assert factor == pytest.approx(np.full(free.sum(), factor.max(initial=0.0)))
    assert np.all(factor >= 1.0 - 1e-9)  # who is cut gives to the others
    # Another microservice beside it changes nothing.
    two = cut(np.concatenate([wanted, [1.0]]), np.concatenate([largest, [1.0]]), np.append(one, 1))
    np.testing.assert_array_equal(two, [*given, 1.0])


@pytest.mark.parametrize("cpu_limit", [0.0, 1.5])
def test_a_limit_is_a_share_of_the_quota(cpu_limit: float) -> None:
    with pytest.raises(ConfigError, match="cpu_limit"):
        BoundedImbresLoad(cpu_limit=cpu_limit)
