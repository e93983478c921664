"""Three tiers as one agent: configuration, single and batched observations, episodes, stable-baselines3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from fakes import batch, make_info, make_observation
from gymnasium import spaces

from agents.controller import Controller
from agents.load.imbres import ImbresLoad
from agents.performance_table import PerformanceTable
from agents.scaling.static import StaticScaling
from imbres_gym.action import decode_connections
from imbres_gym.agent import load_agent_config, make_agent
from imbres_gym.config import ConfigError, available
from imbres_gym.observation import Observation
from imbres_gym.plan import Balancer
from imbres_gym.telemetry import ClusterInfo

LOAD = {"policy": "agents.load.imbres:ImbresLoad"}
CONNECTIONS = {"policy": "agents.connections.imbres_grouping:GroupingConnections"}
SCALING = {"policy": "agents.scaling.imbres:ImbresScaling"}
READY = [[3, 2, 3], [2, 2, 4], [3, 3, 3]]


@pytest.fixture
def info() -> ClusterInfo:
    return make_info(microservices=3, hosts=3)


def controller(info: ClusterInfo, **changes: Any) -> Controller:
    tiers = {"load": LOAD, "connections": CONNECTIONS, "scaling": SCALING}
    return Controller(info, **{"seed": 5, **tiers, **changes})


def interval(info: ClusterInfo, step: int, slow_host: int = 0) -> Observation:
    latency = np.full((3, 3), 10.0)
    latency[:, slow_host] = 30.0
    return make_observation(info, READY, time_s=[5.0 * step], own_latency_ms=latency)


def controllers() -> list[str]:
    """The shipped agents that are controllers of any application; bundles and profiles are for their own."""
    configs = {name: load_agent_config(name) for name in available("agents")}
    return [
        name
        for name, config in configs.items()
        if config.agent == "agents.controller:Controller"
        and not any({"bundle", "profile"} & o.keys() for o in config.options.values())
    ]


@pytest.mark.parametrize("name", controllers())
def test_every_shipped_controller_decides(info: ClusterInfo, name: str) -> None:
    config = load_agent_config(name)
    assert config.name == name
    if "time_limit_s" in config.options["connections"]:
        config.options["connections"]["time_limit_s"] = 0.02
    agent = make_agent(config, info, seed=1)
    for step in range(1, 14):
        observation = interval(info, step)
        action, _ = agent.predict(observation)
        assert action["proportions"].shape == (3, 3)
        assert action["proportions"].dtype == np.float32
        assert action["proportions"].sum(axis=1) == pytest.approx(np.ones(3), abs=1e-6)
        assert action["replicas"].shape == (3,)
        assert action["replicas"].dtype == np.int64
        _, illegal = decode_connections(action["connections"], observation, info.pairs)
        assert illegal == 0


def test_the_connection_tier_sees_the_new_proportions(info: ClusterInfo) -> None:
    observation = interval(info, 1)
    action, _ = controller(info).predict(observation)
    plan, _ = decode_connections(action["connections"], observation, info.pairs)
    hosts = observation["containers"][:, 2]
    received = np.zeros(3)
    sent = action["proportions"][0] / np.array(READY[0])
    for u, d, w in zip(plan.links[0].upstream, plan.links[0].downstream, plan.links[0].weight, strict=True):
        received[hosts[d]] += sent[hosts[u]] * w
    assert received == pytest.approx(action["proportions"][1], abs=1e-6)


class PlacingScaling(StaticScaling):
    """Wants everything on the last host."""

    @property
    def placement(self) -> Any:
        return np.array([[0, 0, 8]] * 3)


class ProbingLoad(ImbresLoad):
    """Names a balancer."""

    balancer = Balancer.PREQUAL


def test_balancer_and_placement_are_passed_on_where_a_policy_has_them(
    info: ClusterInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    static = {"policy": "agents.scaling.static:StaticScaling"}
    plain, _ = controller(info, scaling=static).predict(interval(info, 1))
    assert not {"balancer", "placement"} & set(plain)
    monkeypatch.setattr("agents.load.imbres.ImbresLoad", ProbingLoad)
    monkeypatch.setattr("agents.scaling.static.StaticScaling", PlacingScaling)
    action, _ = controller(info, scaling=static).predict(interval(info, 1))
    assert action["balancer"] is Balancer.PREQUAL
    assert action["placement"].tolist() == [[0, 0, 8]] * 3


def test_a_batch_is_decided_environment_by_environment(info: ClusterInfo) -> None:
    together = controller(info)
    alone = [controller(info), controller(info)]
    for step in range(1, 4):
        observations = [interval(info, step, slow_host=0), interval(info, step, slow_host=2)]
        actions, state = together.predict(batch(observations), state=None, episode_start=np.array([step == 1] * 2))
        assert len(actions) == 2
        assert state is None
        for one, observation, action in zip(alone, observations, actions, strict=True):
            expected, _ = one.predict(observation)
            assert np.array_equal(action["proportions"], expected["proportions"])


def test_episode_start_forgets_only_that_environment(info: ClusterInfo) -> None:
    agent = controller(info)
    observations = batch([interval(info, 1), interval(info, 1)])
    first, _ = agent.predict(observations)
    second, _ = agent.predict(observations)
    third, _ = agent.predict(observations, episode_start=np.array([True, False]))
    assert not np.array_equal(second[0]["proportions"], first[0]["proportions"])
    assert np.array_equal(third[0]["proportions"], first[0]["proportions"])
    assert third[1]["proportions"][0, 0] < second[1]["proportions"][0, 0]


class Recorder(ImbresLoad):
    """Notes the seeds of its episodes."""

    seeds: list[int]

    def reset(self, info: ClusterInfo, seed: int) -> None:
        super().reset(info, seed)
        type(self).seeds.append(seed)


def test_every_episode_has_a_seed_of_its_own(info: ClusterInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "seeds", [], raising=False)
    monkeypatch.setattr("agents.load.imbres.ImbresLoad", Recorder)
    agent = controller(info, seed=5)
    Recorder.seeds.clear()
    observations = batch([interval(info, 1), interval(info, 1)])
    agent.predict(observations, episode_start=np.array([True, True]))
    agent.predict(observations, episode_start=np.array([False, True]))
    assert Recorder.seeds == [5, 6, 7]


def test_equal_seeds_give_equal_decisions(info: ClusterInfo) -> None:
    random = {"policy": "agents.connections.random_k:RandomConnections", "k": 2}
    plans = []
    for seed in 5, 5, 6:
        action, _ = controller(info, seed=seed, connections=random).predict(interval(info, 1))
        plans.append(action["connections"].edge_links.tolist())
    assert plans[0] == plans[1] != plans[2]


def test_the_tiers_share_one_table(info: ClusterInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[int] = []
    insert = PerformanceTable.insert
    monkeypatch.setattr(
        PerformanceTable, "insert", lambda self, *samples: (tables.append(id(self)), insert(self, *samples))[1]
    )
    controller(info).predict(interval(info, 1))
    assert len(tables) == 2  # microservices as a whole, and their hosts: once for all tiers
    assert len(set(tables)) == 1


def test_decision_times_are_reported(info: ClusterInfo) -> None:
    agent = controller(info)
    agent.predict(interval(info, 1))
    parts = [agent.decision_ms[tier] for tier in ("load", "connections", "scaling")]
    assert min(parts) > 0.0
    assert agent.decision_ms["total"] >= sum(parts)


def test_replicas_are_kept_within_the_clusters_bounds() -> None:
    info = make_info(microservices=3, hosts=3, initial_replicas=np.array([1, 90, 7]), max_replicas=50)
    action, _ = controller(info, scaling={"policy": "agents.scaling.static:StaticScaling"}).predict(interval(info, 1))
    assert action["replicas"].tolist() == [1, 50, 7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"load": {**LOAD, "etta": 0.1}}, "load: etta: unknown option of ImbresLoad; did you mean 'eta'"),
        ({"load": {**LOAD, "eta": "lots"}}, "load: eta: Input should be a valid number"),
        ({"load": {**LOAD, "eta": -1.0}}, "load: eta: -1.0 must be > 0"),
        ({"load": {**LOAD, "eta": "fast"}}, "load: "),
        ({"load": {"eta": 0.1}}, "load: policy: missing"),
        ({"load": "balanced"}, "load: policy: missing"),
        ({"load": SCALING}, "load: policy: .* has no method 'propose'"),
        ({"scaling": {"policy": "agents.scaling.nothing:Nothing"}}, "scaling: policy: .*nothing"),
        ({"connections": {"policy": "agents.connections.full:Ful"}}, "connections: policy: .* has no 'Ful'"),
        ({"scaling": {**SCALING, "criterion": "luck"}}, "scaling: criterion: Input should be 'imbalance'"),
        ({"scaling": {"policy": "agents.scaling.static:StaticScaling", "replicas": {"x": 1}}}, "replicas: no micro"),
        ({"table": {"bin": 4}}, "table: bin: unknown option of PerformanceTable; did you mean 'bins'"),
    ],
)
def test_mistakes_are_named(info: ClusterInfo, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        controller(info, **change)


def test_mistakes_in_a_file_are_named(info: ClusterInfo, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\noptions:\n  loda: {policy: x}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"'mine': options: .*loda"):
        make_agent(load_agent_config(file), info, seed=0)


class Replay(gym.Env[Observation, dict[str, Any]]):
    """Shows made-up intervals; the reward is the load that is kept away from the slow host."""

    def __init__(self, info: ClusterInfo) -> None:
        self._info = info
        self._step = 0
        first = interval(info, 1)
        self.observation_space = spaces.Dict(
            {
                name: spaces.Box(
                    -1 if array.dtype == np.int64 else -np.inf,
                    np.iinfo(np.int64).max if array.dtype == np.int64 else np.inf,
                    array.shape,
                    array.dtype.type,
                )
                for name, array in first.items()
            }
        )
        self.action_space = spaces.Dict(
            {
                "proportions": spaces.Box(0.0, 1.0, (3, 3), np.float32),
                "connections": spaces.Graph(spaces.Discrete(3), spaces.Box(0.0, 1.0, (1,), np.float32)),
                "replicas": spaces.MultiDiscrete(np.full(3, 51)),
            }
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 1
        return interval(self._info, 1), {}

    def step(self, action: dict[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self._step += 1
        reward = 1.0 - float(action["proportions"][0, 0])
        return interval(self._info, self._step), reward, False, self._step == 10, {}


def test_stable_baselines3_evaluates_a_controller(info: ClusterInfo) -> None:
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation", exc_type=ImportError)
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env", exc_type=ImportError)
    monitor = pytest.importorskip("stable_baselines3.common.monitor", exc_type=ImportError)
    env = vec_env.DummyVecEnv([lambda: monitor.Monitor(Replay(info))] * 2)
    rewards, lengths = evaluation.evaluate_policy(controller(info), env, n_eval_episodes=4, return_episode_rewards=True)
    assert lengths == [9] * 4
    # Balanced load would give 9 * 5 / 8; every episode starts anew, so all four are alike.
    assert rewards[0] > 9 * 5 / 8
    assert rewards == pytest.approx([rewards[0]] * 4)
