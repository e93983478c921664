"""What an agent's configuration says beside its options: traces, the scenario, and files that options name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluation_fakes as fakes
import pytest

from imbres_gym import artifacts
from imbres_gym.agent import AgentConfig
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.episode import run_episode
from imbres_gym.evaluation.task import EpisodeTask


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(artifacts, "config_root", lambda: tmp_path)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "tiny.json.gz").write_bytes(b"first")
    return tmp_path


def task(options: dict[str, Any], **keys: Any) -> EpisodeTask:
    config = AgentConfig(name="telling", agent="evaluation_fakes:TellingAgent", options=options, **keys)
    return replace(fakes.task(), scenario=fakes.scenario(30.0), warmup_s=5.0, agent_name="telling", agent=config)


def test_an_agent_that_sees_the_scenario_gets_it_and_another_does_not() -> None:
    seeing = task({}, sees_scenario=True)
    run_episode(seeing)
    assert fakes.TellingAgent.built == {"scenario": seeing.scenario}
    run_episode(task({"other": 1}))
    assert fakes.TellingAgent.built == {"other": 1}


def test_the_share_of_traced_requests_is_the_agents_while_it_runs() -> None:
    run_episode(task({}, trace_sampling=0.25))
    assert fakes.FakeCluster.trace_sampling == 0.25
    run_episode(task({}))
    assert fakes.FakeCluster.trace_sampling == fakes.scenario().trace_sampling == 0.0
    assert task({}, trace_sampling=0.25).fingerprint() != task({}).fingerprint()


def test_names_of_the_application_and_the_scenario_are_filled_in(shipped: Path) -> None:
    run_episode(task({"scaling": {"profile": "{application}"}, "other": "{application}"}))
    assert fakes.TellingAgent.built == {"scaling": {"profile": "tiny"}, "other": "{application}"}


@pytest.mark.parametrize("nested", [lambda o: o, lambda o: {"scaling": o}, lambda o: {"tiers": [{"deep": o}]}])
def test_the_fingerprint_follows_the_content_of_files_in_options(shipped: Path, nested: Any) -> None:
    named = task(nested({"profile": "{application}"}))
    before = named.fingerprint()
    assert named.fingerprint() == before
    (shipped / "profiles" / "tiny.json.gz").write_bytes(b"second")
    after = named.fingerprint()
    assert {key for key in before if before[key] != after[key]} == {"agent"}


def test_a_file_can_be_named_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.zip"
    file.write_bytes(b"first")
    before = task({"bundle": str(file)}).fingerprint()
    file.write_bytes(b"second")
    assert task({"bundle": str(file)}).fingerprint() != before


def test_a_missing_file_is_named_with_its_agent_and_the_nearest(shipped: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent 'telling': profile: there is no profile 'tinny' .*'tiny'"):
        task({"load": {"profile": "tinny"}}).fingerprint()
    with pytest.raises(ConfigError, match=r"agent 'telling': bundle: .*none.zip: there is no such file"):
        task({"bundle": str(shipped / "none.zip")}).fingerprint()
