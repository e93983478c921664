"""The agent that looks ahead: its model is the cluster that was observed, and its search keeps the target."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import envs
from agents.look_ahead.agent import LookAhead, LookAheadScaling
from agents.look_ahead.model import Model, background_of
from agents.look_ahead.search import search_replicas
from envs.base import MicroserviceEnv
from imbres_gym.agent import load_agent_config, make_agent
from imbres_gym.config import ConfigError

Ints = NDArray[np.int64]


def latency(work: list[float]):  # type: ignore[no-untyped-def]
    """A made-up p95: the more containers for the work of each microservice, the lower."""
    return lambda replicas: float(np.sum(np.array(work) / replicas))


def fluid_env(duration: str = "4m") -> MicroserviceEnv:
    """Hotel Reservation in the fluid engine."""
    assert envs.__name__ == "envs"
    env = gym.make("imbres_gym/Cluster-v0", scenario="hotel-reservation/high-strict", engine="fluid", duration=duration)
    inner = env.unwrapped
    assert isinstance(inner, MicroserviceEnv)
    return inner


@given(
    work=st.lists(st.floats(1.0, 1000.0), min_size=1, max_size=6),
    count=st.integers(1, 60),
    target=st.floats(1.0, 500.0),
    step=st.floats(0.01, 1.0),
)
@settings(deadline=None, max_examples=100)
def test_the_search_keeps_a_target_that_is_kept_and_its_bounds(
    work: list[float], count: int, target: float, step: float
) -> None:
    now, predict = np.full(len(work), count), latency(work)
    found = search_replicas(now, predict, target, step, (1, 64), tries=5)
    assert np.all((found >= 1) & (found <= 64))
    if predict(now) <= target:
        assert predict(found) <= target and np.all(found <= now)
    else:
        assert predict(found) <= predict(now) and np.all(found >= now)


def test_the_search_takes_from_who_does_not_mind() -> None:
    found = search_replicas(np.array([10, 10]), latency([100.0, 1.0]), 10.2, step=0.1, bounds=(1, 20), tries=5)
    assert found.tolist() == [10, 9]


def test_the_search_gives_to_who_needs_it() -> None:
    found = search_replicas(np.array([10, 10]), latency([100.0, 1.0]), 9.2, step=0.1, bounds=(1, 20), tries=5)
    assert found.tolist() == [11, 10]  # 100 / 11 + 0.1 = 9.19


def test_background_is_what_our_containers_do_not_use() -> None:
    info = make_info(cores=np.array([0.5, 2.0]), host_cores=10.0)
    interference = [[0.6, 0.3, 0.2, 0.1], [0.05, 0.0, 0.0, 0.0]]
    observation = make_observation(info, [[2, 0], [1, 1]], interference=interference)  # all at half of their quota
    # Host 0: 2 x 0.25 + 1 core of 10; host 1: 1 core of 10, more than was measured.
    expected = [[0.45, 0.3, 0.2, 0.1], [0.0, 0.0, 0.0, 0.0]]
    assert np.allclose(background_of(observation, info), expected, atol=1e-6)


def test_the_model_has_the_observed_containers_and_predicts_what_happens() -> None:
    env = fluid_env()
    observation, _ = env.reset(seed=4003)
    info = env.cluster_info
    action = {"replicas": info.initial_replicas - 1 * (info.initial_replicas > 4)}
    action |= {"proportions": observation["proportions"], "connections": env.action_space["connections"].sample()}
    for _ in range(14):
        observation = env.step(action)[0]
    model = Model(env.scenario, info, observation, measured_s=60.0)
    predicted_ms = model.p95_ms()
    assert predicted_ms == model.p95_ms(), "the same question has the same answer"
    for _ in range(12):
        observation = env.step(action)[0]
    # Other chance and other links; the model itself is the same.
    assert predicted_ms == pytest.approx(float(observation["window_p95_ms"].max()), rel=0.15)
    fewer = np.maximum(observation["ready"].sum(axis=1) * 2 // 3, 1)
    assert model.p95_ms(fewer) > predicted_ms


def test_the_agent_saves_containers_and_keeps_the_sla() -> None:
    env = fluid_env("12m")
    agent = make_agent(load_agent_config("look-ahead"), env.cluster_info, seed=1, scenario=env.scenario)
    assert isinstance(agent, LookAhead)
    observation, _ = env.reset(seed=4003)
    first, over = int(observation["ready"].sum()), False
    while not over:
        action, _ = agent.predict(observation)
        observation, _, _, over, _ = env.step(action)
    assert observation["ready"].sum() < 0.8 * first
    assert observation["window_p95_ms"].max() <= env.cluster_info.sla_ms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"safety": 0.0}, "safety: 0.0 must be in"),
        ({"step": 1.5}, "step: 1.5 must be in"),
        ({"tries": 0}, "tries: 0 must be"),
        ({"measured_s": -1.0}, "measured_s: -1.0 must be"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LookAheadScaling(**options)  # type: ignore[arg-type]
