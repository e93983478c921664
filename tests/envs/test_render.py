from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from fake_cluster import tiny_scenario

from envs.base import MicroserviceEnv
from envs.metrics import class_p95_ms
from envs.render import Renderer
from envs.render_text import render_text
from imbres_gym.percentiles import FAILED_MS


def shown(mode: str | None, steps: int = 2, **kwargs: Any) -> gym.Env[Any, Any]:
    env = gym.make("imbres_gym/LoadShifting-v0", scenario=tiny_scenario(), render_mode=mode, **kwargs)
    env.reset(seed=1)
    for _ in range(steps):
        env.step(np.array([[0.3, 0.7]] * 3, np.float32))
    return env


def test_the_text_has_a_cell_for_each_microservice_and_host() -> None:
    env = shown("ansi", steps=11, scaling_interval_s=60.0)
    text = str(env.render())
    lines = text.splitlines()
    assert lines[0].startswith("t = 60 s   E2E p95 ")
    assert "the SLA of 20 ms" in lines[0]
    assert lines[3].split() == ["microservice", "host-0", "host-1"]
    assert lines[5].split() == ["cpu", "10%", "60%"]
    inner = env.unwrapped
    assert isinstance(inner, MicroserviceEnv)
    load, p95_ms = inner.telemetry.load_rps[1, 1], inner.telemetry.own_p95_ms[1, 1]
    left = next(line for line in lines if line.startswith("left"))
    assert left.rstrip().endswith(f"{load:.0f}/s {p95_ms:.1f} ms x1")


def test_a_step_where_a_tenth_of_the_requests_fails_breaks_the_sla() -> None:
    env = shown("ansi")
    inner = env.unwrapped
    assert isinstance(inner, MicroserviceEnv)
    fine = inner.telemetry
    failing = replace(fine, latencies_ms=(np.full(90, 1.0),), requests=np.array([100]), failed=np.array([10]))
    assert class_p95_ms(failing).tolist() == [FAILED_MS]
    text = render_text(failing, inner.cluster_info, inner.observation)
    assert "E2E p95 10000.0 ms" in text
    assert "BREAKS the SLA" in text
    renderer = Renderer("rgb_array")
    renderer.record(failing)
    assert renderer._history[0].p95_ms == FAILED_MS


def test_the_text_shows_pending_containers_and_empty_hosts() -> None:
    env = gym.make(
        "imbres_gym/Cluster-v0",
        scenario=tiny_scenario(initial_replicas={"front": 1}, startup_s=30.0),
        render_mode="ansi",
        scaling_interval_s=5.0,
    )
    env.reset(seed=1)
    before = str(env.render())
    assert next(line for line in before.splitlines() if line.startswith("front")).endswith("  -")
    env.step({**env.action_space.sample(), "replicas": np.array([2, 2, 2])})
    text = str(env.render())
    assert "(+1 pending)" in text
    assert "x0+1" in text


@pytest.mark.parametrize("env_id", ["imbres_gym/Cluster-v0", "imbres_gym/Scaling-v0"])
def test_the_picture_has_its_size_and_changes_with_the_cluster(env_id: str) -> None:
    env = gym.make(env_id, scenario=tiny_scenario(), render_mode="rgb_array")
    env.reset(seed=1)
    first = env.render()
    env.step(env.action_space.sample())
    second = env.render()
    assert isinstance(first, np.ndarray)
    assert isinstance(second, np.ndarray)
    assert first.shape == second.shape == (700, 1000, 3)
    assert first.dtype == np.uint8
    assert np.any(first != second)
    assert np.array_equal(second, np.asarray(env.render()))


def test_a_window_is_updated_at_every_step_and_closed_with_the_environment() -> None:
    import desktop
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    plt.switch_backend("module://desktop")
    try:
        env = shown("human", steps=1)
        assert len(desktop.shown) == 2
        assert len(plt.get_fignums()) == 1
        pickle.loads(pickle.dumps(env))
        assert env.render() is None
        env.close()
        assert plt.get_fignums() == []
    finally:
        plt.switch_backend(before)


def test_a_window_without_a_desktop_is_refused_with_a_way_out() -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    with pytest.raises(RuntimeError, match="use render_mode 'rgb_array' or 'ansi'"):
        shown("human")
    assert plt.get_fignums() == []


def test_without_a_render_mode_render_warns_and_gives_nothing() -> None:
    env = shown(None).unwrapped
    with pytest.warns(UserWarning, match="without a render mode"):
        assert env.render() is None


def test_matplotlib_and_torch_are_not_loaded_until_they_are_used() -> None:
    program = (
        "import sys, envs, envs.base, envs.cluster, envs.wrappers; "
        "print([m for m in ('matplotlib', 'torch', 'stable_baselines3', 'agents') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
