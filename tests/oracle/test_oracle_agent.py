"""From the command line to the agent: what was searched is stored, kept, played back, and refused when outdated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from typer.testing import CliRunner

import envs
from imbres_gym import __version__, artifacts
from imbres_gym.agent import AgentConfig, make_agent
from imbres_gym.cli import app
from imbres_gym.config import ConfigError
from imbres_gym.oracle.record import OracleRecord, load_record, oracle_hash, save_record
from imbres_gym.scenario import Scenario, load_scenario

FEWEST = "agents.connections.fewest:FewestConnections"


def record_of(scenario: Scenario, **changes: Any) -> OracleRecord:
    values: dict[str, Any] = {
        "scenario": "tiny",
        "scenario_hash": oracle_hash(scenario),
        "version": __version__,
        "containers": 11,
        "lower_bound": 7,
        "replicas": {"front": 5, "back": 6},
        "weights": {"front": [1.0, 0.5], "back": [1.0, 1.0]},
        "connections": FEWEST,
        "p95_ms": 100.0,
        "p95_interval_ms": (90.0, 110.0),
        "violated": 0.0,
        "windows": 20,
        "simulated_s": 1000.0,
    }
    return OracleRecord(**{**values, **changes})


def config(reference: str) -> AgentConfig:
    return AgentConfig(name="oracle", agent="agents.oracle:Oracle", sees_scenario=True, options={"oracle": reference})


def environment(scenario: Scenario) -> Any:
    assert envs.__name__ == "envs"  # importing it registers the environments
    return gym.make("imbres_gym/Cluster-v0", scenario=scenario, disable_env_checker=True)


def test_the_agent_plays_the_record_back(scenario_file: Path, tmp_path: Path) -> None:
    scenario = load_scenario(scenario_file, duration=90)
    save_record(record_of(scenario), tmp_path / "tiny.json")
    env = environment(scenario)
    observation, _ = env.reset(seed=1)
    agent = make_agent(config(str(tmp_path / "tiny.json")), env.unwrapped.cluster_info, 1, scenario)
    over, illegal = False, 0
    while not over:
        action, _ = agent.predict(observation)
        observation, _, _, over, info = env.step(action)
        illegal = info["illegal_actions"]["total"]
    assert illegal == 0
    ready = observation["ready"]
    assert ready.sum(axis=1).tolist() == [5, 6]
    front = observation["proportions"][0] / ready[0]
    assert front[0] / front[1] == pytest.approx(2.0, rel=1e-3)
    assert 6 <= observation["connections"][0] <= 5 + 6 - 1  # full connection has 30


def test_a_missing_record_says_what_to_run(
    scenario_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "config_root", lambda: tmp_path / "configs")
    scenario = load_scenario(scenario_file)
    info = environment(scenario).unwrapped.cluster_info
    with pytest.raises(ConfigError, match=r"no oracle 'tiny'.*imbres-gym oracle .*tiny\.yaml"):
        make_agent(config("{scenario}"), info, 1, scenario)


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({}, {"sla_ms": 240.0}, "the scenario has changed since the search"),
        ({"version": "0.0.0"}, {}, "searched with version 0.0.0"),
    ],
)
def test_an_outdated_record_says_what_to_run(
    scenario_file: Path, tmp_path: Path, changes: dict[str, Any], overrides: dict[str, Any], message: str
) -> None:
    save_record(record_of(load_scenario(scenario_file), **changes), tmp_path / "tiny.json")
    scenario = load_scenario(scenario_file, **overrides)
    info = environment(scenario).unwrapped.cluster_info
    with pytest.raises(ConfigError, match=f"{message}.*imbres-gym oracle"):
        make_agent(config(str(tmp_path / "tiny.json")), info, 1, scenario)


def test_the_record_does_not_depend_on_the_length_of_an_episode_nor_its_traces(scenario_file: Path) -> None:
    before = oracle_hash(load_scenario(scenario_file))
    assert oracle_hash(load_scenario(scenario_file, duration="1h", trace_sampling=0.1, seed=7)) == before
    assert oracle_hash(load_scenario(scenario_file, startup_s=7.0)) != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: "{", "not JSON"),
        (lambda d: "[]", "expected keys and values"),
        (lambda d: json.dumps({**d, "containers": -3}), "containers: .*got -3"),
        (lambda d: json.dumps({**d, "extra": 1}), "extra: unknown key"),
        (lambda d: json.dumps({**d, "weights": {"front": [1.0]}}), "weights: must have the microservices of replicas"),
    ],
)
def test_a_broken_record_is_named(scenario_file: Path, tmp_path: Path, change: Any, message: str) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(change(record_of(load_scenario(scenario_file)).model_dump(mode="json")))
    with pytest.raises(ConfigError, match=rf"(?s)tiny\.json.*{message}"):
        load_record(file)


def test_the_command_writes_a_record_once(scenario_file: Path, tmp_path: Path) -> None:
    words = ["oracle", str(scenario_file), "--out", str(tmp_path / "out"), "--workers", "1", "--resume"]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    file = tmp_path / "out" / "tiny.json"
    record = load_record(file)
    assert f"tiny: {record.containers} containers" in first.output
    written = file.stat().st_mtime_ns
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0
    assert "kept" in again.output
    assert file.stat().st_mtime_ns == written
    assert np.all(record.allocation(list(record.replicas)).replicas >= 1)


def test_the_command_refuses_a_start_of_another_application(scenario_file: Path, tmp_path: Path) -> None:
    words = ["oracle", str(scenario_file), "--out", str(tmp_path / "out"), "--start", "hotel-reservation/high-strict"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "hotel-reservation/high-strict has other microservices or hosts than" in " ".join(result.output.split())
    assert not list((tmp_path / "out").glob("*.json"))


def test_the_command_refuses_what_changes_with_time(scenario_file: Path, tmp_path: Path) -> None:
    text = scenario_file.read_text()
    scenario_file.write_text(text.replace("{kind: constant, levels", "{kind: moving, levels"))
    result = CliRunner().invoke(app, ["oracle", str(scenario_file), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "interference" in result.output and "kind: constant" in result.output


def test_a_folder_that_cannot_be_written_to_is_said_before_the_search(scenario_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["oracle", str(scenario_file), "--out", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert f"--out {tmp_path / 'file'}: cannot be written to" in result.output
