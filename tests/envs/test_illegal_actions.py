from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
from fake_cluster import FakeCluster, tiny_scenario
from gymnasium.spaces import GraphInstance
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from envs.base import ILLEGAL_KINDS
from envs.cluster import ClusterEnv
from envs.connections import ConnectionsEnv
from envs.load_shifting import LoadShiftingEnv
from envs.scaling import ScalingEnv
from imbres_gym.plan import Balancer

junk = st.one_of(st.none(), st.text(max_size=3), st.floats(), st.integers(), st.lists(st.text(max_size=1), max_size=3))
reals = arrays.arrays(np.float64, (3, 2), elements=st.floats(width=64))
any_array = arrays.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.int8, np.uint64, np.complex128, np.bool_, np.str_]),
    arrays.array_shapes(max_dims=3, max_side=4),
)
counts = arrays.arrays(st.sampled_from([np.int64, np.uint64, np.int8, np.float64]), (3,))
graphs = st.integers(0, 6).flatmap(
    lambda n: st.builds(
        GraphInstance,
        st.just(np.zeros(5, np.int64)),
        st.one_of(arrays.arrays(np.float64, (n, 1)), any_array, junk),
        st.one_of(arrays.arrays(np.int64, (n, 2), elements=st.integers(-2, 20)), any_array, junk),
    )
)


@cache
def fresh(kind: type[Any]) -> Any:
    env = kind(tiny_scenario(duration="10000h"))
    env.reset()
    return env


def count(**illegal: int) -> dict[str, int]:
    """What `info["illegal_actions"]` is: zero for what is not named."""
    return {**dict.fromkeys((*ILLEGAL_KINDS, "total"), 0), **illegal}


def step(kind: type[Any], action: Any) -> tuple[Any, dict[str, int]]:
    """One step that must not raise or warn; the environment and the count of illegal actions."""
    env = fresh(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observation, reward, _, _, info = env.step(action)
    assert observation in env.observation_space
    assert np.isfinite(reward)
    return env, info["illegal_actions"]


@settings(max_examples=60, deadline=None)
@given(st.one_of(reals, any_array, junk))
def test_any_load_action_leaves_legal_proportions(action: Any) -> None:
    env, illegal = step(LoadShiftingEnv, action)
    ready = env.telemetry.ready
    proportions = env.telemetry.proportions
    np.testing.assert_allclose(proportions.sum(axis=1), 1.0)
    assert np.all(proportions[ready == 0] == 0.0)
    assert illegal["connections"] == illegal["replicas"] == 0


@settings(max_examples=60, deadline=None)
@given(st.one_of(graphs, any_array, junk))
def test_any_connection_action_leaves_a_legal_plan(action: Any) -> None:
    env, _ = step(ConnectionsEnv, action)
    plan = env.cluster.applied[-1].connections
    known = set(env.observation["containers"][:, 0]) - {-1}
    for links in plan.links.values() if plan else ():
        assert set(links.upstream) | set(links.downstream) <= known
        assert np.all(np.isfinite(links.weight) & (links.weight >= 0.0))


@settings(max_examples=40, deadline=None)
@given(st.one_of(counts, any_array, junk))
def test_any_scaling_action_leaves_counts_in_their_bounds(action: Any) -> None:
    env, _ = step(ScalingEnv, action)
    assert np.all((env.telemetry.wanted >= 1) & (env.telemetry.wanted <= 6))


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(
        junk,
        st.dictionaries(
            st.sampled_from(["proportions", "connections", "replicas", "balancer", "placement", "x"]),
            st.one_of(any_array, junk),
        ),
    )
)
def test_any_joint_action_is_survived_and_counted(action: Any) -> None:
    _, illegal = step(ClusterEnv, action)
    for kind in ("proportions", "connections", "replicas"):
        assert illegal[kind] >= (not isinstance(action, dict) or kind not in action)
    for kind in ("balancer", "placement"):
        assert illegal[kind] == 0 or kind in action


def test_each_kind_is_counted_and_summed_up_over_the_episode() -> None:
    env = ClusterEnv(tiny_scenario())
    env.reset()
    rows = np.flatnonzero(env.observation["containers"][:, 1] == 0)
    down = np.flatnonzero(env.observation["containers"][:, 1] == 1)
    links = np.array([[rows[0], down[0]], [rows[0], 10_000], [down[0], rows[0]], [rows[1], down[0]]])
    action = {
        "proportions": np.array([[0.5, 0.5], [np.nan, 1.0], [0.0, 0.0]]),
        "connections": GraphInstance(np.zeros(9, np.int64), np.array([[0.5], [0.5], [0.5], [-1.0]]), links),
        "replicas": np.array([0, 3, 99]),
    }
    _, _, _, _, info = env.step(action)
    # A row with NaN and an empty one; an unknown container, no pair, a negative weight; one too few, one too many.
    assert info["illegal_actions"] == count(proportions=2, connections=3, replicas=2, total=7)
    assert env.telemetry.proportions.tolist() == [[0.5, 0.5], [0.0, 1.0], [0.5, 0.5]]
    _, _, _, _, info = env.step({**action, "connections": None})
    assert info["illegal_actions"] == count(proportions=2, connections=1, replicas=2, total=12)
    _, info = env.reset()
    assert info["illegal_actions"]["total"] == 0


def test_an_ignored_part_leaves_what_is_in_force() -> None:
    env = LoadShiftingEnv(tiny_scenario())
    env.reset()
    env.step(np.array([[0.3, 0.7]] * 3, np.float32))
    before = env.telemetry.proportions
    _, _, _, _, info = env.step(np.ones((2, 2)))
    assert info["illegal_actions"]["proportions"] == 1
    np.testing.assert_array_equal(env.telemetry.proportions, before)
    cluster = env.cluster
    assert isinstance(cluster, FakeCluster)
    assert cluster.applied[-1].proportions is None


@pytest.mark.parametrize(
    ("part", "understood", "illegal"),
    [
        ({"balancer": Balancer.PREQUAL}, Balancer.PREQUAL, 0),
        ({"balancer": "peak-ewma"}, Balancer.PEAK_EWMA, 0),
        ({"balancer": "prequel"}, None, 1),
        ({"placement": np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0]])}, [[1, 2], [0, 0], [3, 0]], 0),
        ({"placement": np.array([[-1, 2], [0, 99], [3, 0]])}, [[0, 2], [0, 6], [3, 0]], 2),
        ({"placement": np.array([1, 2, 3])}, None, 1),
        ({"placement": np.full((3, 2), 0.5)}, None, 1),
    ],
)
def test_the_optional_parts_of_a_joint_action(part: dict[str, Any], understood: Any, illegal: int) -> None:
    """Counted as the other parts, and not at all where they are absent; legal ones reach the cluster."""
    env = ClusterEnv(tiny_scenario(scaling_interval_s=5.0))
    env.reset()
    cluster = env.cluster
    assert isinstance(cluster, FakeCluster)
    (name,) = part
    _, _, _, _, info = env.step(env.action_space.sample())
    assert info["illegal_actions"][name] == 0 and getattr(cluster.applied[-1], name) is None
    _, _, _, _, info = env.step({**env.action_space.sample(), **part})
    assert info["illegal_actions"][name] == illegal
    applied = getattr(cluster.applied[-1], name)
    assert (applied.tolist() if isinstance(applied, np.ndarray) else applied) == understood
