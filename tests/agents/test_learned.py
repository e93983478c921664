from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import make_info, make_observation

from agents.bundle import Bundle, save_bundle
from agents.controller import Controller
from agents.learned import LearnedLoad, LearnedScaling
from agents.network import Network, Normalisation
from envs.base import MicroserviceEnv
from envs.wrappers import make_learning_env
from imbres_gym.agent import load_agent_config, make_agent
from imbres_gym.config import ConfigError, available
from imbres_gym.flat import FLAT_KEYS
from imbres_gym.scenario import load_scenario
from imbres_gym.telemetry import ClusterInfo

KEYS = ["own_latency_ms", "cpu_utilisation", "wanted", "phase"]
CONNECTIONS = {"policy": "agents.connections.full:FullConnections"}
STATIC = {"policy": "agents.scaling.static:StaticScaling"}
BALANCED = {"policy": "agents.load.balanced:BalancedLoad"}


def random_network(inputs: int, outputs: int) -> Network:
    rng = np.random.default_rng(1)
    return Network(
        weights=(rng.normal(size=(8, inputs)).astype(np.float32), rng.normal(size=(outputs, 8)).astype(np.float32)),
        biases=(rng.normal(size=8).astype(np.float32), rng.normal(size=outputs).astype(np.float32)),
        normalisation=Normalisation(np.full(inputs, 0.3), np.full(inputs, 0.2)),
    )


def bundle_for(info: ClusterInfo, kind: str, path: Path, **changes: Any) -> tuple[str, Network]:
    m, h = len(info.microservices), len(info.hosts)
    network = random_network(2 * m * h + m + 1, m * h if kind == "load" else m)
    values: dict[str, Any] = {
        "kind": kind,
        "application": "chain",
        "microservices": info.microservices,
        "hosts": h,
        "classes": info.classes,
        "recipe": {"observation": KEYS},
        "networks": {"actor": network},
    }
    save_bundle(Bundle(**{**values, **changes}), path)
    return str(path), network


@pytest.mark.parametrize("kind", ["load", "scaling"])
def test_at_run_time_a_policy_does_what_it_did_in_training(kind: str, tmp_path: Path) -> None:
    env_id = {"load": "imbres_gym/LoadShifting-v0", "scaling": "imbres_gym/Scaling-v0"}[kind]
    scenario = load_scenario("hotel-reservation/high-strict", duration=75, workload={"kind": "constant", "rps": 50})
    env = make_learning_env(env_id, scenario, keys=KEYS, targets=kind == "scaling")
    inner = env.unwrapped
    assert isinstance(inner, MicroserviceEnv)
    path, network = bundle_for(inner.cluster_info, kind, tmp_path / "a.zip")
    flat, _ = env.reset(seed=2000)
    for _ in range(2):
        action = np.clip(network.forward(flat), -1.0, 1.0)
        seen = inner.observation
        flat, _, _, over, _ = env.step(action)
        if kind == "load":
            load = LearnedLoad(bundle=path)
            load.reset(inner.cluster_info, 0)
            np.testing.assert_allclose(load.propose(seen), inner.telemetry.proportions, rtol=1e-6)
        else:
            scaling = LearnedScaling(bundle=path)
            scaling.reset(inner.cluster_info, 0)
            assert scaling.scale(seen).tolist() == inner.telemetry.wanted.tolist()
        if over:
            break


def test_learned_tiers_have_a_short_name_in_controllers(tmp_path: Path) -> None:
    info = make_info()
    load, _ = bundle_for(info, "load", tmp_path / "load.zip")
    scaling, _ = bundle_for(info, "scaling", tmp_path / "scaling.zip")
    controller = Controller(
        info,
        seed=1,
        load={"policy": "learned", "bundle": load},
        connections=CONNECTIONS,
        scaling={"policy": "learned", "bundle": scaling},
    )
    observation = make_observation(info, [[2, 1], [3, 3]])
    action, _ = controller.predict(observation)
    expected_load, expected_scaling = LearnedLoad(bundle=load), LearnedScaling(bundle=scaling)
    expected_load.reset(info, 1)
    expected_scaling.reset(info, 1)
    np.testing.assert_allclose(action["proportions"], expected_load.propose(observation), rtol=1e-6)
    assert action["replicas"].tolist() == expected_scaling.scale(observation).tolist()
    assert action["proportions"].sum(axis=1) == pytest.approx([1.0, 1.0])


def test_a_bundle_of_something_else_is_refused(tmp_path: Path) -> None:
    info = make_info()
    path, _ = bundle_for(info, "load", tmp_path / "load.zip")

    def control(info: ClusterInfo, **tiers: Any) -> Controller:
        return Controller(info, **{"seed": 1, "load": BALANCED, "connections": CONNECTIONS, "scaling": STATIC, **tiers})

    learned = {"policy": "learned", "bundle": path}
    with pytest.raises(ConfigError, match="trained on the application 'chain'"):
        control(make_info(microservices=3), load=learned)
    with pytest.raises(ConfigError, match="trained on 2 hosts, this cluster has 3"):
        control(make_info(hosts=3), load=learned)
    with pytest.raises(ConfigError, match=r"scaling: bundle: .*of kind 'load', and 'scaling' is needed"):
        control(info, scaling=learned)
    with pytest.raises(ConfigError, match=r"load: bundle: .*none\.zip: there is no such file"):
        control(info, load={"policy": "learned", "bundle": str(tmp_path / "none.zip")})
    with pytest.raises(ConfigError, match="connections: policy"):
        control(info, connections=learned)


@pytest.mark.parametrize("changes", [{"networks": {}}, {"recipe": {}}, {"recipe": {"observation": ["x"]}}])
def test_a_bundle_without_what_a_tier_needs_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path, _ = bundle_for(make_info(), "load", tmp_path / "load.zip", **changes)
    with pytest.raises(ConfigError, match="not written by imbres-gym train"):
        LearnedLoad(bundle=path)


def test_a_network_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    info = make_info()
    path, _ = bundle_for(info, "load", tmp_path / "load.zip", networks={"actor": random_network(11, 3)})
    with pytest.raises(ConfigError, match="has 3 outputs, and 4 are needed"):
        LearnedLoad(bundle=path).reset(info, 1)


def test_every_shipped_learned_agent_has_its_bundle() -> None:
    env = make_learning_env("imbres_gym/LoadShifting-v0", load_scenario("hotel-reservation/high-strict"))
    inner = env.unwrapped
    assert isinstance(inner, MicroserviceEnv)
    names = [name for name in available("agents") if name.startswith("learned-")]
    assert names
    for name in names:
        make_agent(load_agent_config(name), inner.cluster_info, 1)
    assert len(FLAT_KEYS) == len(set(FLAT_KEYS))
