from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import iterate

import envs  # noqa: F401 (registers the environments)
from envs.vector import ClusterVectorEnv
from imbres_gym.cluster import make_cluster
from imbres_gym.config import ConfigError

SETTING: dict[str, Any] = {"scenario": "hotel-reservation/high-strict", "engine": "fluid", "duration": "20s"}


@pytest.fixture(autouse=True)
def real_engine(monkeypatch: pytest.MonkeyPatch, fake_engine: None) -> None:
    monkeypatch.setattr("envs.base.make_cluster", make_cluster)


@pytest.fixture(params=[1, 2])
def many(request: pytest.FixtureRequest) -> Iterator[ClusterVectorEnv]:
    made = gym.make_vec(
        "imbres_gym/Cluster-v0",
        num_envs=3,
        vectorization_mode="vector_entry_point",
        workers=request.param,
        **SETTING,
    )
    yield made  # type: ignore[misc]
    made.close()


def test_every_environment_does_what_a_single_one_does(many: ClusterVectorEnv) -> None:
    assert many.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    singles = [gym.make("imbres_gym/Cluster-v0", **SETTING).unwrapped for _ in range(3)]
    many.action_space.seed(1)
    seen, infos = many.reset(seed=3000)
    for i, single in enumerate(singles):
        observation, info = single.reset(seed=3000 + i)
        assert_same(i, observation, info, seen, infos)
    assert seen in many.observation_space
    ended = [False] * 3
    for _ in range(8):  # an episode has three steps; the fourth starts the next one
        actions = many.action_space.sample()
        seen, rewards, terminated, truncated, infos = many.step(actions)
        for i, (single, action) in enumerate(zip(singles, iterate(many.action_space, actions), strict=True)):
            if ended[i]:
                observation, info = single.reset()
                assert rewards[i] == 0.0 and not truncated[i]
                ended[i] = False
            else:
                observation, reward, _, ended[i], info = single.step(action)
                assert (rewards[i], truncated[i]) == (reward, ended[i])
            assert_same(i, observation, info, seen, infos)
        assert not terminated.any()
    assert not all(ended)


def assert_same(i: int, observation: Any, info: Any, seen: Any, infos: Any) -> None:
    for key, values in observation.items():
        np.testing.assert_array_equal(seen[key][i], values)
    for group in ("metrics", "reward_parts", "illegal_actions"):
        assert {name: float(value) for name, value in info[group].items()} == {
            name: infos[group][name][i] for name in info[group]
        }
    assert infos["time_s"][i] == info["time_s"]


def test_each_environment_can_have_its_own_seed_and_what_was_handed_out_stays(many: ClusterVectorEnv) -> None:
    alike, _ = many.reset(seed=[7, 7, 8])
    np.testing.assert_array_equal(alike["load_rps"][0], alike["load_rps"][1])
    assert (alike["load_rps"][0] != alike["load_rps"][2]).any()
    before = alike["load_rps"].copy()
    many.step(many.action_space.sample())
    np.testing.assert_array_equal(alike["load_rps"], before)
    with pytest.raises(ConfigError, match=r"seed: 2 of them for 3"):
        many.reset(seed=[1, 2])


def test_memory_is_used_again_once_nobody_holds_it(many: ClusterVectorEnv) -> None:
    held = [many.reset(seed=1)[0]["load_rps"]]
    before = [held[0].copy()]
    for _ in range(4):
        observation, *_ = many.step(many.action_space.sample())
        held.append(observation["load_rps"][1:])
        before.append(held[-1].copy())
    for one, copy in zip(held, before, strict=True):
        np.testing.assert_array_equal(one, copy)
    assert len({one.ctypes.data for one in held}) == 5
    held.clear()
    places = set()
    for _ in range(6):
        observation, *_ = many.step(many.action_space.sample())
        places.add(observation["load_rps"].ctypes.data)
    assert len(places) == 2


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not let processes choose cores")
def test_a_process_for_each_core_stays_on_it() -> None:
    cores = sorted(os.sched_getaffinity(0))
    many = ClusterVectorEnv(num_envs=len(cores) + 1, **SETTING)
    many.reset(seed=1)
    on = [os.sched_getaffinity(worker._process.pid or 0) for worker in many._workers]
    assert on == ([{core} for core in cores] if len(cores) > 1 else [])
    assert sorted(os.sched_getaffinity(0)) == cores
    many.close()


SCRIPT = """
import gymnasium as gym
import envs

many = gym.make_vec(
    "imbres_gym/LoadShifting-v0", num_envs=2, vectorization_mode="vector_entry_point", workers=2, engine="fluid"
)
observation, _ = many.reset(seed=1)
print("first of", observation["load_rps"].shape)
many.close()
"""


@pytest.mark.parametrize("as_file", [True, False])
def test_a_script_needs_no_guard_of_its_main_module(tmp_path: Path, as_file: bool) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "script.py" if as_file else "-"],
        input=SCRIPT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert result.stdout == "first of (2, 12, 4)\n" and result.stderr == ""


def test_errors_of_an_environment_come_back_and_a_dead_process_is_named(many: ClusterVectorEnv) -> None:
    with pytest.raises(gym.error.ResetNeeded):
        many.step(many.action_space.sample())
    with pytest.raises(ConfigError, match="unknown option 'scenari'"):
        many.reset(options={"scenari": "x"})
    workers = many._workers
    if workers:
        os.kill(workers[0]._process.pid or 0, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="environments 0 to 0 has died"):
            many.reset(seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "at least one"),
        ({"num_envs": 2, "workers": 0}, "at least one"),
        ({"num_envs": 2, "render_mode": "ansi"}, "cannot be shown"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClusterVectorEnv(**arguments, **SETTING)
