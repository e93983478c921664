"""The live environment: the same spaces as the simulated one, checked by Gymnasium itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from live_bed import NAMESPACE, Bed

import envs
from envs.cluster import ClusterEnv
from envs.live import LiveClusterEnv
from imbres_gym.config import ConfigError
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.interference import ConstantInterference, Level
from imbres_gym.sim.workload import ConstantWorkload

FAST = {"control_interval_s": 0.02, "scaling_interval_s": 0.04}


@pytest.fixture
def make_env(bed: Bed, tmp_path: Path) -> Iterator[Callable[..., LiveClusterEnv]]:
    made: list[LiveClusterEnv] = []

    def make(**options: Any) -> LiveClusterEnv:
        settings = {"config": bed.config(**FAST), "context": "bed", "kubeconfig": bed.kubernetes.kubeconfig(tmp_path)}
        env = gym.make(envs.LIVE_ENVIRONMENT, disable_env_checker=True, **{**settings, **options}).unwrapped
        assert isinstance(env, LiveClusterEnv)
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()


def simulated(bed: Bed) -> ClusterEnv:
    return ClusterEnv(
        scenario=Scenario(
            application=bed.config().application,
            hosts=Hosts(count=3, cores=4, memory_mb=8000),
            workload=ConstantWorkload(rps=30),
            interference=ConstantInterference(levels=[Level(cpu=0.2)]),
            sla_ms=100,
            max_replicas=10,
            duration=600,
        )
    )


@pytest.mark.filterwarnings("ignore:.*The environment doesn't have a registered spec.*", "ignore:.*not within.*")
def test_gymnasium_finds_nothing_to_complain_about(make_env: Callable[..., LiveClusterEnv]) -> None:
    check_env(make_env(dry_run=True, duration=1.0), skip_render_check=True, skip_close_check=True)


def test_the_spaces_are_those_of_the_simulated_environment(bed: Bed, make_env: Callable[..., LiveClusterEnv]) -> None:
    live, sim = make_env(duration="10m"), simulated(bed)
    assert live.action_space == sim.action_space
    assert isinstance(live.observation_space, gym.spaces.Dict) and isinstance(sim.observation_space, gym.spaces.Dict)
    shapes = {key: (space.shape, space.dtype) for key, space in live.observation_space.items()}
    expected = {key: (space.shape, space.dtype) for key, space in sim.observation_space.items()}
    # A simulated cluster knows how many containers have room on its hosts; a real one may be overcommitted.
    n = live.cluster_info.max_containers
    expected["containers"] = ((n, 4), expected["containers"][1])
    expected["container_usage"] = ((n, 3), expected["container_usage"][1])
    assert shapes == expected


def test_an_observation_is_inside_its_space_whatever_is_decided(make_env: Callable[..., LiveClusterEnv]) -> None:
    env = make_env()
    env.action_space.seed(1)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    for _ in range(4):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert np.isfinite(reward) and not terminated and not truncated
        assert info["metrics"]["workload_rps"] == pytest.approx(30.0)


def test_it_is_truncated_after_its_duration(make_env: Callable[..., LiveClusterEnv]) -> None:
    env = make_env(duration=0.06)
    env.reset()
    ends = [env.step({})[3] for _ in range(2)]
    assert ends == [False, True]


def test_replicas_take_effect_at_the_scaling_interval_only(bed: Bed, make_env: Callable[..., LiveClusterEnv]) -> None:
    env = make_env()
    env.reset()  # at 0.02 s, which is no multiple of 0.04 s
    env.step({"replicas": np.array([3, 4, 3])})
    assert bed.replicas("cart") == 3
    env.step({"replicas": np.array([3, 4, 3])})
    assert bed.replicas("cart") == 4


def test_closing_leaves_the_cluster_as_it_was_found(bed: Bed, make_env: Callable[..., LiveClusterEnv]) -> None:
    env = make_env()
    env.reset()
    env.step({})
    env.step({"replicas": np.array([3, 4, 3]), "proportions": np.array([[0.5, 0.25, 0.25]] * 3)})
    assert bed.replicas("cart") == 4 and bed.plans()
    env.close()
    assert bed.replicas("cart") == 3 and not bed.plans()
    assert bed.kubernetes.get("leases", "imbres-gym.shop", NAMESPACE)["spec"]["holderIdentity"] == ""


def test_a_reset_takes_no_options(make_env: Callable[..., LiveClusterEnv]) -> None:
    with pytest.raises(ConfigError, match="scenario"):
        make_env().reset(options={"scenario": "social-network/low-slack"})


def test_an_unknown_context_is_refused_with_the_nearest_one(make_env: Callable[..., LiveClusterEnv]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'bed'"):
        make_env(context="bet")


def test_it_can_be_watched(make_env: Callable[..., LiveClusterEnv]) -> None:
    env = make_env(render_mode="ansi")
    env.reset()
    text = env.render()
    assert "node-a" in text and "cart" in text
