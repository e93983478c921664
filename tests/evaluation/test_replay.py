"""A recorded episode: the same again, stopped in the middle, and continued by another agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from imbres_gym.agent import AgentConfig, load_agent_config
from imbres_gym.cli import app
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.episode import EpisodeResult, run_episode
from imbres_gym.evaluation.replay import Comparison, plan_replay
from imbres_gym.evaluation.tape import Tape, TapeRecorder, load_tape, save_tape
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.scenario import load_scenario

APPLICATION = """
name: tiny
container: {cores: 0.5, memory_mb: 100}
hop_ms: 0.1
microservices:
  front: {operations: {ask: {cpu_ms: 4}}}
  back: {operations: {answer: {cpu_ms: 6}}}
request_classes:
  read: {share: 1, tree: {call: front/ask, stages: [[{call: back/answer}]]}}
"""
SCENARIO = """
application: tiny-app.yaml
hosts: {count: 2, cores: 8, memory_mb: 4000}
workload: {kind: constant, rps: 100}
interference: {kind: constant, levels: [{cpu: 0.1}, {cpu: 0.6}]}
sla_ms: 100
duration: 3m
"""


class Placing:
    """Grows by a container a step, places them all on the second host, and leaves connections out now and then."""

    def __init__(self, info: Any, *, seed: int) -> None:
        self._step = 0

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        self._step += 1
        action = {"proportions": observation["proportions"], "replicas": np.array([4, 5]) + self._step // 4}
        if self._step % 2:
            action["placement"] = np.array([[0, 9], [0, 9]])
        return action, None


class Numbers(Placing):
    """Gives actions of another environment."""

    def predict(self, *_: Any, **__: Any) -> Any:
        return 3, None


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    (tmp_path / "tiny-app.yaml").write_text(APPLICATION)
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    return tmp_path / "tiny.yaml"


def task_of(scenario_file: Path, agent: AgentConfig | str) -> EpisodeTask:
    config = load_agent_config(agent) if isinstance(agent, str) else agent
    return EpisodeTask("tiny", load_scenario(scenario_file), config.name, config, 1000, 30.0)


def record(task: EpisodeTask, path: Path) -> tuple[EpisodeResult, Tape]:
    recorder = TapeRecorder(task)
    result = run_episode(task, on_action=recorder.add)
    save_tape(recorder.tape(), path)
    return result, load_tape(path)


def play(path: Path, **options: Any) -> tuple[EpisodeResult, Comparison]:
    planned = plan_replay(path, **options)
    comparison = Comparison(planned)
    return run_episode(planned.task, comparison.add), comparison


def measured(result: EpisodeResult, intervals: int | None = None) -> dict[str, list[Any]]:
    """Every series of the first intervals that does not depend on the machine."""
    series = {name: values[:intervals].tolist() for name, values in result.series.items()}
    return {name: values for name, values in series.items() if not name.startswith(("decision_ms", "metrics/decision"))}


@pytest.mark.parametrize("agent", ["imbres", "p2c", "hpa"])
def test_a_replay_is_the_same_episode(scenario_file: Path, tmp_path: Path, agent: str) -> None:
    task = task_of(scenario_file, agent)
    result, tape = record(task, tmp_path / "tape.npz")
    assert len(tape.actions) == 35  # the first of 36 intervals passes before the first decision
    again, comparison = play(tmp_path / "tape.npz")
    assert comparison.differs_at is None
    assert measured(again) == measured(result)
    for name, value in result.metrics["whole"].items():
        assert name == "decision_ms" or np.array_equal(again.metrics["whole"][name], value, equal_nan=True)


def test_placement_and_missing_parts_are_kept(scenario_file: Path, tmp_path: Path) -> None:
    task = task_of(scenario_file, AgentConfig(name="placing", agent=f"{__name__}:Placing"))
    result, tape = record(task, tmp_path / "tape.npz")
    assert "connections" not in tape.actions[0]
    assert tape.actions[0]["placement"].tolist() == [[0, 9], [0, 9]]
    assert "placement" not in tape.actions[1]
    again, comparison = play(tmp_path / "tape.npz")
    assert comparison.differs_at is None
    assert measured(again) == measured(result)


def test_it_can_stop_in_the_middle_and_go_on_with_another_agent(scenario_file: Path, tmp_path: Path) -> None:
    result, _ = record(task_of(scenario_file, "imbres"), tmp_path / "tape.npz")
    stopped, comparison = play(tmp_path / "tape.npz", until_s=120.0)
    assert comparison.differs_at is None
    assert stopped.agent == "imbres until 120 s"
    assert stopped.duration_s == 120.0
    assert measured(stopped) == measured(result, 23)
    other, comparison = play(tmp_path / "tape.npz", until_s=120.0, then="static")
    assert comparison.differs_at is None
    assert other.agent == "imbres until 120 s, then static"
    assert len(other.series["time_s"]) == len(result.series["time_s"])
    assert measured(other, 23) == measured(result, 23)
    # The initial containers are what the other agent wants.
    start = [load_scenario(scenario_file).replicas_at_start()[name] for name in ("front", "back")]
    assert other.series["replicas"][-1].tolist() == start != result.series["replicas"][22].tolist()


def test_what_is_not_as_recorded_is_noticed(scenario_file: Path, tmp_path: Path) -> None:
    _, tape = record(task_of(scenario_file, "static"), tmp_path / "tape.npz")
    digests = tape.digests.copy()
    digests[7] += np.uint64(1)
    save_tape(replace(tape, digests=digests), tmp_path / "other.npz")
    assert play(tmp_path / "other.npz")[1].differs_at == 7


def test_unusable_tapes_and_options_say_what_is_wrong(scenario_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "tape.npz"
    record(task_of(scenario_file, "static"), path)
    with pytest.raises(ConfigError, match="--until 500: must be from 10 to 180 s"):
        plan_replay(path, until_s=500.0)
    with pytest.raises(ConfigError, match="--then: the recorded actions last to the end"):
        plan_replay(path, then="hpa")
    with pytest.raises(ConfigError, match="there is no agent 'hpaa'; did you mean 'hpa'"):
        plan_replay(path, until_s=60.0, then="hpaa")
    with pytest.raises(ConfigError, match="--then firm: it needs traces"):
        plan_replay(path, until_s=60.0, then="firm")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match="no recorded episode, or a damaged one"):
        load_tape(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tape(tmp_path / "missing.npz")
    with pytest.raises(ConfigError, match="only actions of the joint environment"):
        record(task_of(scenario_file, AgentConfig(name="numbers", agent=f"{__name__}:Numbers")), path)


def test_the_commands(scenario_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = CliRunner().invoke(app, ["run", "imbres", str(scenario_file), "--record", "--out", str(out)])
    assert run.exit_code == 0, run.output
    (tape,) = (out / "tapes").iterdir()
    assert f"imbres-gym replay {tape}" in run.output
    words = ["replay", str(tape), "--until", "2m", "--then", "hpa", "--out", str(out)]
    replayed = CliRunner().invoke(app, words)
    assert replayed.exit_code == 0, replayed.output
    assert "23 actions; everything measured is as it was recorded" in replayed.output
    assert len(list((out / "episodes").iterdir())) == 2
    wrong = CliRunner().invoke(app, [*words, "--until", "9h"])
    assert wrong.exit_code == 2
    assert "--until" in wrong.output
