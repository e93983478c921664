from __future__ import annotations

import importlib
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from fake_cluster import tiny_scenario
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import envs
from envs.affinity import expand_affinity
from envs.base import MicroserviceEnv
from envs.wrappers import make_learning_env
from imbres_gym.config import ConfigError
from imbres_gym.flat import flatten_observation
from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan

IDS = list(envs.ENVIRONMENTS)


def sb3(module: str) -> Any:
    """A module of stable-baselines3, whose import of torch warns on some versions of Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"stable_baselines3.common.{module}")


def learning(env_id: str, **kwargs: Any) -> tuple[gym.Env[Any, Any], MicroserviceEnv]:
    env = make_learning_env(env_id, tiny_scenario(), **kwargs)
    env.reset(seed=1)
    inner = env.unwrapped
    assert isinstance(inner, MicroserviceEnv)
    return env, inner


@pytest.mark.parametrize("env_id", IDS)
def test_stable_baselines_finds_nothing_to_complain_about(env_id: str, any_engine: str) -> None:
    sb3("env_checker").check_env(make_learning_env(env_id, tiny_scenario()), warn=True)


@pytest.mark.parametrize("env_id", IDS)
def test_flat_actions_are_always_legal_and_observations_normalised(env_id: str, any_engine: str) -> None:
    env, _ = learning(env_id)
    env.action_space.seed(2)
    for _ in range(8):
        observation, _, _, _, info = env.step(env.action_space.sample())
        assert observation in env.observation_space
        assert info["illegal_actions"]["total"] == 0


@pytest.mark.parametrize("env_id", IDS)
def test_a_flat_environment_can_be_pickled(env_id: str) -> None:
    env, _ = learning(env_id)
    twin = pickle.loads(pickle.dumps(env))
    action = env.action_space.sample()
    assert np.array_equal(env.step(action)[0], twin.step(action)[0])


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("action", [None, "x", np.zeros(99), [[]]])
def test_a_flat_action_of_the_wrong_shape_is_ignored_and_counted(env_id: str, action: Any) -> None:
    env, _ = learning(env_id)
    _, _, _, _, info = env.step(action)
    assert info["illegal_actions"]["total"] >= 1


def test_an_unknown_id_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'imbres_gym/Scaling-v0'"):
        make_learning_env("imbres_gym/Scalings-v0", tiny_scenario())


def test_load_shifting_zero_is_balanced_and_minus_one_empties_a_host() -> None:
    env, inner = learning("imbres_gym/LoadShifting-v0")
    env.step(np.array([0, 0, -1, 1, -1, -1], np.float32))
    np.testing.assert_allclose(inner.telemetry.proportions, [[0.5, 0.5], [0.0, 1.0], [0.5, 0.5]])


def test_scaling_steps_are_relative_and_stay_in_the_bounds() -> None:
    env, inner = learning("imbres_gym/Scaling-v0")
    assert isinstance(env.action_space, gym.spaces.MultiDiscrete)
    assert env.action_space.nvec.tolist() == [7, 7, 7]
    env.step(np.array([3, 5, 0]))
    assert inner.telemetry.wanted.tolist() == [2, 4, 1]


def test_scaling_targets_bring_the_measured_use_to_the_target(any_engine: str) -> None:
    env, inner = learning("imbres_gym/Scaling-v0", targets=True)
    busy = (inner.observation["cpu_utilisation"].astype(float) * inner.observation["ready"]).sum(axis=1)
    env.step(np.array([0.0, -1.0, 1.0], np.float32))
    # Targets of 50, 25 and 100 %, between 1 and 6 containers.
    assert inner.telemetry.wanted.tolist() == np.clip(np.ceil(busy / [0.5, 0.25, 1.0]), 1, 6).tolist()


def test_only_scaling_takes_targets() -> None:
    with pytest.raises(ConfigError, match="only the scaling environment takes target utilisations"):
        make_learning_env("imbres_gym/LoadShifting-v0", tiny_scenario(), targets=True)


def test_a_flat_observation_of_some_keys_is_their_part_of_the_whole() -> None:
    env, inner = learning("imbres_gym/LoadShifting-v0", keys=["interference", "phase"])
    flat, _, _, _, _ = env.step(np.zeros(6, np.float32))
    assert flat in env.observation_space
    np.testing.assert_allclose(flat, [*inner.observation["interference"].ravel(), 10 / 60], rtol=1e-6)
    with pytest.raises(ConfigError, match="did you mean 'interference'"):
        make_learning_env("imbres_gym/LoadShifting-v0", tiny_scenario(), keys=["interferense"])
    with pytest.raises(ConfigError, match="must be a list of keys"):
        make_learning_env("imbres_gym/LoadShifting-v0", tiny_scenario(), keys="interference")


def test_the_joint_action_moves_all_three_tiers() -> None:
    env, inner = learning("imbres_gym/Cluster-v0", scaling_interval_s=5.0)
    action = np.zeros(6 + 8 + 3, np.float32)
    action[:2] = (-1.0, 1.0)
    action[-3:] = (1.0, 0.2, -0.4)
    env.step(action)
    assert inner.telemetry.proportions[0].tolist() == [0.0, 1.0]
    # 3 x (1.0, 0.2, -0.4) rounds to (3, 1, -1).
    assert inner.telemetry.wanted.tolist() == [5, 3, 1]
    assert inner.telemetry.connections.sum() > 0


def test_a_flat_observation_says_what_its_docstring_says() -> None:
    _, inner = learning("imbres_gym/LoadShifting-v0")
    observation, info = inner.observation, inner.cluster_info
    flat = flatten_observation(observation, info)
    own = observation["own_latency_ms"].ravel()
    np.testing.assert_allclose(flat[: own.size], own / (own + info.sla_ms), rtol=1e-6)
    # 5 s of the 60 s have passed.
    assert flat[-1] == pytest.approx(5 / 60)


def test_native_environments_work_in_stable_baselines_vector_environment() -> None:
    vector = sb3("vec_env").DummyVecEnv(
        [lambda: gym.make("imbres_gym/Cluster-v0", scenario=tiny_scenario(duration=15))] * 2
    )
    vector.seed(5)
    observations = vector.reset()
    assert observations["ready"].shape == (2, 3, 2)
    actions = [vector.action_space.sample() for _ in range(2)]
    _, rewards, dones, infos = vector.step(actions)
    assert not dones.any()
    assert rewards == pytest.approx([info["metrics"]["reward"] for info in infos])
    _, _, dones, infos = vector.step(actions)
    assert dones.all()
    assert all(info["TimeLimit.truncated"] for info in infos)


def expand(
    affinity: Any, containers: tuple[int, int], budget: int
) -> tuple[ConnectionPlan, Observation, MicroserviceEnv]:
    """The plan for given numbers of (upstream, downstream) containers of both pairs."""
    up, down = containers
    env = gym.make(
        "imbres_gym/Connections-v0",
        scenario=tiny_scenario(
            max_replicas=40,
            initial_replicas={"front": up, "left": down, "right": down},
            connections_per_container=budget,
        ),
    ).unwrapped
    assert isinstance(env, MicroserviceEnv)
    env.reset(seed=1)
    plan = expand_affinity(affinity, env.telemetry.proportions, env.observation, env.cluster_info)
    return plan, env.observation, env


@settings(max_examples=40, deadline=None)
@given(
    affinity=arrays.arrays(np.float64, (2, 2, 2), elements=st.floats(0, 1)),
    containers=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    budget=st.integers(1, 12),
)
def test_an_expanded_plan_keeps_to_the_budget_and_serves_every_upstream_container(
    affinity: Any, containers: tuple[int, int], budget: int
) -> None:
    plan, observation, _ = expand(affinity, containers, budget)
    table = observation["containers"]
    for links in plan.links.values():
        assert len(links) <= max(budget * containers[1], containers[0])
        assert set(links.upstream) == set(table[table[:, 1] == 0, 0])
        per_upstream = [links.weight[links.upstream == identity].sum() for identity in set(links.upstream)]
        np.testing.assert_allclose(per_upstream, 1.0)
        assert len(set(zip(links.upstream, links.downstream, strict=True))) == len(links)


def test_equal_affinities_give_every_downstream_container_its_proportion_when_all_can_connect() -> None:
    plan, _, _ = expand(np.ones((2, 2, 2)), (4, 6), budget=10)
    for links in plan.links.values():
        assert len(links) == 24
        np.testing.assert_allclose(links.weight, 1 / 6)


def test_a_sample_is_near_the_proportions_when_not_all_can_connect() -> None:
    # 20 upstream containers, 10 on each host, share 2 x 10 connections: one each, so the sample decides.
    plan, _, _ = expand(np.ones((2, 2, 2)), (20, 10), budget=2)
    for links in plan.links.values():
        assert len(links) == 20
        received = [links.weight[links.downstream == identity].sum() for identity in np.unique(links.downstream)]
        assert received == [2.0] * 10


def test_zero_affinity_separates_hosts_and_all_zero_counts_as_equal() -> None:
    affinity = np.zeros((2, 2, 2))
    affinity[0, 0, 1] = 1.0
    plan, observation, _ = expand(affinity, (4, 4), budget=10)
    host = {row[0]: row[2] for row in observation["containers"]}
    used = {(host[u], host[d]) for u, d in zip(plan.links[0].upstream, plan.links[0].downstream, strict=True)}
    assert used == {(0, 1), (1, 0), (1, 1)}
