from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from fake_cluster import Balanced, FakeCluster, OneMoreEveryTime, tiny_scenario
from gymnasium.utils.env_checker import check_env, data_equivalence
from numpy.typing import NDArray

import envs
from envs.base import MicroserviceEnv
from envs.load_shifting import LoadShiftingEnv
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.observer import Observer
from imbres_gym.plan import Balancer, Plan
from imbres_gym.sim.workload import ConstantWorkload

ROOT = Path(__file__).resolve().parents[2]
IDS = list(envs.ENVIRONMENTS)
SHARED = {"metrics", "reward_parts", "illegal_actions", "time_s"}


def make(env_id: str, **kwargs: Any) -> MicroserviceEnv:
    env = gym.make(env_id, **{"scenario": tiny_scenario(), **kwargs}).unwrapped
    assert isinstance(env, MicroserviceEnv)
    return env


def play(env: gym.Env[Any, Any], steps: int) -> list[Any]:
    """Observations, rewards and infos of an episode with random actions."""
    env.action_space.seed(3)
    seen: list[Any] = [env.reset(seed=11)]
    for _ in range(steps):
        seen.append(env.step(env.action_space.sample()))
    return seen


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_finds_nothing_to_complain_about(env_id: str, any_engine: str) -> None:
    # Rendering has its own tests: "human" needs a desktop.
    check_env(make(env_id), skip_render_check=True)


def test_one_line_registers_and_makes() -> None:
    env = gym.make("envs:imbres_gym/Cluster-v0", scenario=tiny_scenario())
    assert isinstance(env.unwrapped, MicroserviceEnv)


@pytest.mark.parametrize("env_id", IDS)
def test_every_class_docstring_is_a_manual_page(env_id: str) -> None:
    page = type(make(env_id)).__doc__ or ""
    for section in (
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Version History",
    ):
        assert f"## {section}\n" in page


@pytest.mark.parametrize("env_id", IDS)
def test_a_pickled_environment_goes_on_as_the_original(env_id: str, any_engine: str) -> None:
    env = make(env_id)
    play(env, 2)
    twin = pickle.loads(pickle.dumps(env))
    action = env.action_space.sample()
    assert data_equivalence(env.step(action), twin.step(action), exact=True)


def test_the_scenario_can_be_copied() -> None:
    scenario = make("imbres_gym/Cluster-v0").scenario
    assert copy.deepcopy(scenario) == scenario


@pytest.mark.parametrize("env_id", IDS)
def test_the_same_seed_gives_the_same_episode(env_id: str, any_engine: str) -> None:
    assert data_equivalence(play(make(env_id), 3), play(make(env_id), 3), exact=True)


def test_the_same_seed_gives_the_same_episode_in_another_process() -> None:
    program = (
        "import envs.base, fake_cluster, numpy, test_environments as t; "
        "envs.base.make_cluster = fake_cluster.FakeCluster; "
        "print([repr(step[1]) for step in t.play(t.make('imbres_gym/Cluster-v0'), 4)[1:]])"
    )
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == str([repr(step[1]) for step in play(make("imbres_gym/Cluster-v0"), 4)[1:]])


def test_without_a_seed_the_first_episode_takes_the_scenarios_and_later_ones_differ() -> None:
    env, explicit = make("imbres_gym/Cluster-v0"), make("imbres_gym/Cluster-v0")
    first, _ = env.reset()
    assert data_equivalence(first, explicit.reset(seed=tiny_scenario().seed)[0], exact=True)
    second, _ = env.reset()
    third, _ = env.reset()
    assert first["e2e_ms"][0, 0] != second["e2e_ms"][0, 0] != third["e2e_ms"][0, 0]


@pytest.mark.parametrize("env_id", IDS)
def test_info_always_has_the_same_keys_and_flat_finite_metrics(env_id: str) -> None:
    env = make(env_id)
    _, at_reset = env.reset()
    _, reward, _, _, after_step = env.step(env.action_space.sample())
    assert set(at_reset) == set(after_step) == SHARED
    assert set(at_reset["metrics"]) == set(after_step["metrics"])
    assert all(type(value) is float and np.isfinite(value) for value in after_step["metrics"].values())
    assert after_step["metrics"]["reward"] == reward


@pytest.mark.parametrize(("env_id", "steps"), [("imbres_gym/Cluster-v0", 23), ("imbres_gym/Scaling-v0", 1)])
def test_the_episode_is_truncated_at_its_duration_and_never_terminated(env_id: str, steps: int) -> None:
    env = make(env_id, duration="2m")
    env.reset()
    for step in range(1, steps + 1):
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert not terminated
        assert truncated == (step == steps)
    assert info["time_s"] == 120.0


def test_a_scaling_step_is_cut_at_the_end_of_the_episode() -> None:
    env = make("imbres_gym/Scaling-v0", duration=90)
    env.reset()
    _, _, _, truncated, info = env.step(env.action_space.sample())
    assert truncated
    assert info["time_s"] == 90.0


def test_one_scaling_step_is_twelve_control_intervals_in_which_the_other_tiers_act() -> None:
    env = make("imbres_gym/Scaling-v0")
    _, info = env.reset()
    assert info["time_s"] == 60.0
    cluster = env.cluster
    assert isinstance(cluster, FakeCluster)
    cluster.applied.clear()
    _, _, _, _, info = env.step(np.array([4, 3, 2]))
    assert info["time_s"] == 120.0
    assert all(plan.proportions is not None and plan.connections is not None for plan in cluster.applied)
    assert [plan.replicas is None for plan in cluster.applied] == [False] + [True] * 11
    assert env.observation["wanted"].tolist() == [4, 3, 2]


def test_replica_counts_take_effect_only_at_multiples_of_the_scaling_interval() -> None:
    env = make("imbres_gym/Cluster-v0", scaling_interval_s=15.0)
    env.reset()
    initial = env.observation["wanted"].tolist()
    wanted = []
    for _ in range(4):
        start_s = env.telemetry.time_s
        env.step({**env.action_space.sample(), "replicas": np.array([5, 4, 3])})
        wanted.append((start_s, env.observation["wanted"].tolist()))
    assert wanted == [(5.0, initial), (10.0, initial), (15.0, [5, 4, 3]), (20.0, [5, 4, 3])]


@pytest.mark.parametrize("env_id", ["imbres_gym/LoadShifting-v0", "imbres_gym/Connections-v0"])
def test_the_filled_scaling_tier_acts_at_the_scaling_interval_within_the_bounds(env_id: str) -> None:
    env = make(env_id, scaling_interval_s=10.0)
    env.reset()
    start = env.observation["wanted"]
    counts = []
    for _ in range(12):
        env.step(env.action_space.sample())
        counts.append(env.observation["wanted"][0] - start[0])
    assert counts[:5] == [0, 1, 1, 2, 2]
    assert env.observation["wanted"].max() <= env.cluster_info.max_replicas


def test_each_environment_applies_its_own_part_and_the_policies_parts() -> None:
    proportions = np.array([[0.25, 0.75]] * 3, np.float32)
    env = make("imbres_gym/LoadShifting-v0")
    env.reset()
    env.step(proportions)
    cluster = env.cluster
    assert isinstance(cluster, FakeCluster)
    plan: Plan = cluster.applied[-1]
    assert plan.proportions is not None
    assert np.array_equal(plan.proportions, proportions)
    assert plan.connections is not None
    assert plan.connections.links == {}
    np.testing.assert_allclose(env.observation["proportions"], proportions)


def test_reset_can_change_the_scenario_if_the_spaces_stay() -> None:
    env = make("imbres_gym/LoadShifting-v0")
    busier = tiny_scenario(workload=ConstantWorkload(rps=100.0), initial_replicas={"front": 3})
    env.reset(options={"scenario": busier})
    assert env.scenario == busier
    assert env.observation["wanted"][0] == 3
    with pytest.raises(ConfigError, match="needs other spaces"):
        env.reset(options={"scenario": tiny_scenario(max_replicas=9)})
    assert env.scenario == busier
    with pytest.raises(ConfigError, match="did you mean 'scenario'"):
        env.reset(options={"scenarios": busier})


def test_the_callers_changes_to_an_observation_do_not_reach_the_environment() -> None:
    env, untouched = make("imbres_gym/Cluster-v0"), make("imbres_gym/Cluster-v0")
    observation, _ = env.reset(seed=1)
    expected, _ = untouched.reset(seed=1)
    for array in observation.values():
        array[...] = 0
    assert data_equivalence(env.observation, expected, exact=True)


def test_the_observation_is_that_of_the_telemetry(any_engine: str) -> None:
    env = make("imbres_gym/Cluster-v0")
    env.action_space.seed(3)
    observation, _ = env.reset(seed=11)
    observer = Observer(env.cluster_info)
    for _ in range(14):  # more than the minute that the window covers
        assert data_equivalence(observer.observe(env.telemetry), observation, exact=True)
        observation, *_ = env.step(env.action_space.sample())


def test_what_was_handed_out_stays_and_what_is_in_place_goes_on(any_engine: str) -> None:
    env = make("imbres_gym/Cluster-v0")
    env.reset(seed=11)
    own, in_place, telemetry = env.observation, env.observation_in_place, env.telemetry
    before, time_s = own["load_rps"].copy(), telemetry.time_s
    env.step(env.action_space.sample())
    assert np.array_equal(own["load_rps"], before) and telemetry.time_s == time_s < env.telemetry.time_s
    assert env.observation_in_place is in_place
    assert np.array_equal(in_place["load_rps"], env.observation["load_rps"])
    assert not np.array_equal(in_place["load_rps"], before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward_weights": {"violations": 1.0}}, "did you mean 'violation'"),
        ({"reward_weights": {"churn": -1.0}}, "must be a finite number >= 0"),
        ({"reward_weights": {"churn": "1"}}, "churn: '1' must be a finite number"),
        ({"reward_weights": 3}, "reward_weights: 3 must name the parts"),
        ({"render_mode": "rgb-array"}, "did you mean 'rgb_array'"),
        ({"duration": "soon"}, "duration: not a duration"),
        ({"engine": "event"}, "engine"),
        ({"load": "fake_cluster:Balanced"}, "load: this environment's action decides it"),
        ({"connections": "fake_cluster"}, "write module:Class"),
        ({"connections": "fake_cluster:NeedsAnArgument"}, "cannot be built without arguments"),
    ],
)
def test_a_wrong_argument_is_named_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoadShiftingEnv(tiny_scenario(), **arguments)


def test_a_scenario_of_another_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="scenario: 5 must be a name"):
        LoadShiftingEnv(5)  # type: ignore[arg-type]


def test_nothing_works_before_the_first_reset_and_closing_twice_is_fine() -> None:
    env = make("imbres_gym/Cluster-v0")
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())
    env.close()
    env.close()
    cluster = env.cluster
    assert isinstance(cluster, FakeCluster)
    assert cluster.closed


def test_gymnasiums_vector_environment_takes_it() -> None:
    vector = gym.make_vec("imbres_gym/LoadShifting-v0", 2, vectorization_mode="sync", scenario=tiny_scenario())
    observations, infos = vector.reset(seed=4)
    assert observations["ready"].shape == (2, 3, 2)
    _, rewards, _, _, infos = vector.step(vector.action_space.sample())
    np.testing.assert_allclose(infos["metrics"]["reward"], rewards)


class Probing(Balanced):
    """A load policy that names a balancer."""

    balancer = Balancer.PREQUAL


class Placing(OneMoreEveryTime):
    """A scaling policy that wants its containers on one host; the placement is valid after `scale`."""

    placement: np.ndarray[Any, Any] | None = None

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        wanted = super().scale(observation)
        self.placement = np.stack([wanted, 0 * wanted], axis=1)
        return wanted


def test_filled_tiers_bring_their_balancer_and_placement_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fake_cluster.Balanced", Probing)
    monkeypatch.setattr("fake_cluster.OneMoreEveryTime", Placing)
    for env_id, balancer, placed in (
        ("imbres_gym/LoadShifting-v0", None, True),
        ("imbres_gym/Connections-v0", Balancer.PREQUAL, True),
        ("imbres_gym/Scaling-v0", Balancer.PREQUAL, False),
    ):
        env = make(env_id, scaling_interval_s=5.0)
        env.reset()
        env.step(env.action_space.sample())
        cluster = env.cluster
        assert isinstance(cluster, FakeCluster)
        plan = cluster.applied[-1]
        assert plan.replicas is not None and plan.balancer is balancer
        assert (plan.placement is not None) == placed
        if plan.placement is not None:
            assert plan.placement[:, 0].tolist() == plan.replicas.tolist()
