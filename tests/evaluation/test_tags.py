"""One set of TensorBoard tags: for hand-written and learned agents, in the log of an episode and while training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import evaluation_fakes as fakes
import gymnasium as gym
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from imbres_gym.agent import AgentConfig
from imbres_gym.evaluation.episode import EpisodeResult, run_episode
from imbres_gym.evaluation.metrics import METRICS
from imbres_gym.evaluation.tags import scalars, step_scalars
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.evaluation.tensorboard import write_logs

PROMISED = {
    "reward/total",
    "reward/resource",
    "reward/violation",
    "reward/churn",
    "cluster/containers",
    "cluster/load_variance",
    "cluster/connections",
    "cluster/connection_churn",
    "cluster/workload_rps",
    "cluster/illegal_actions",
    "e2e/p50_ms",
    "e2e/p95_ms",
    "e2e/p99_ms",
    "e2e/window_p95_ms",
    "e2e/sla_violation",
    "e2e/request_violation",
    "e2e/failed",
}
"""Of every step, of any agent; what an issue of the project asks for, among others."""

EPISODE_ONLY = {"decision/total_ms", "e2e/sla_ms", "cluster/capacity_rps", "replicas/front", "e2e/p95_ms/write"}

CONTROLLER: dict[str, Any] = {
    "load": {"policy": "agents.load.balanced:BalancedLoad"},
    "connections": {"policy": "agents.connections.full:FullConnections"},
    "scaling": {"policy": "agents.scaling.static:StaticScaling"},
}


class Spy(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the `info` of every step."""

    infos: list[dict[str, Any]] = []  # noqa: RUF012 (for all instances: the evaluation makes its own)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        outcome = self.env.step(action)
        self.infos.append(outcome[4])
        return outcome


class LearnedAgent:
    """Stands for a trained model: no tiers, numbers in and numbers out, nothing but `predict`."""

    def __init__(self, info: Any, *, seed: int) -> None:
        self._weights = np.random.default_rng(seed).normal(size=len(info.hosts))

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[Any, Any]:
        shares = np.exp(self._weights) * (observation["ready"] > 0)
        action = {
            "proportions": (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32),
            "connections": gym.spaces.GraphInstance(np.zeros(0, np.int64), None, None),
            "replicas": observation["wanted"] + 1,
        }
        return action, state


def spied(**options: Any) -> Spy:
    return Spy(gym.make("envs:imbres_gym/Cluster-v0", **options))


gym.register("spied/Cluster-v0", entry_point=spied, disable_env_checker=True)


def play(name: str, agent: str, **options: Any) -> tuple[EpisodeResult, list[dict[str, Any]]]:
    Spy.infos.clear()
    config = AgentConfig(name=name, agent=agent, options=options)
    result = run_episode(EpisodeTask("tiny/real", fakes.scenario(80.0), name, config, 3000, 15.0, "spied/Cluster-v0"))
    return result, list(Spy.infos)


@pytest.fixture(scope="module")
def handwritten() -> tuple[EpisodeResult, list[dict[str, Any]]]:
    return play("handwritten", "agents.controller:Controller", **CONTROLLER)


@pytest.fixture(scope="module")
def learned() -> tuple[EpisodeResult, list[dict[str, Any]]]:
    import sys

    sys.modules.setdefault("test_tags", sys.modules[__name__])
    return play("learned", "test_tags:LearnedAgent")


def test_what_training_logs_is_what_the_episode_logs(
    handwritten: tuple[EpisodeResult, list[dict[str, Any]]],
) -> None:
    result, infos = handwritten
    episode = scalars(result)
    steps = [step_scalars(info) for info in infos]
    assert PROMISED <= set(steps[0]) <= set(episode)
    assert len(steps) == len(episode["e2e/p95_ms"]) == 15
    for tag in steps[0]:
        assert [step[tag] for step in steps] == episode[tag].tolist(), tag


def test_both_kinds_of_agents_have_the_same_tags_in_their_event_files(
    handwritten: tuple[EpisodeResult, list[dict[str, Any]]],
    learned: tuple[EpisodeResult, list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    write_logs([handwritten[0], learned[0]], tmp_path)
    tags = {}
    for name in ("handwritten", "learned"):
        log = EventAccumulator(str(tmp_path / "tiny" / "real" / name / "seed-3000"))
        log.Reload()
        tags[name] = set(log.Tags()["scalars"])
    # Only a controller has tiers whose decisions take time.
    tiers = {"decision/load_ms", "decision/connections_ms", "decision/scaling_ms"}
    assert tags["handwritten"] - tags["learned"] <= tiers
    assert tags["learned"] <= tags["handwritten"]
    assert tags["learned"] >= PROMISED | EPISODE_ONLY | {f"metric/{name}" for name in METRICS}


def test_every_chart_has_its_curves(learned: tuple[EpisodeResult, list[dict[str, Any]]], tmp_path: Path) -> None:
    """The page CUSTOM SCALARS: latency with the SLA and load with capacity in one chart each."""
    write_logs([learned[0]], tmp_path)
    log = EventAccumulator(str(tmp_path))
    log.Reload()
    (event,) = log.Tensors(metadata.CONFIG_SUMMARY_TAG)
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    tags = scalars(learned[0])
    shown = [
        {tag for tag in tags if re.search(chart.multiline.tag[0], tag)}
        for category in layout.category
        for chart in category.chart
    ]
    assert {"e2e/window_p95_ms", "e2e/sla_ms"} in shown
    assert {"cluster/workload_rps", "cluster/capacity_rps"} in shown
    assert all(shown)


def test_the_page_of_hyperparameters_has_a_column_for_each_metric(
    handwritten: tuple[EpisodeResult, list[dict[str, Any]]],
    learned: tuple[EpisodeResult, list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    write_logs([handwritten[0], learned[0]], tmp_path)
    log = EventAccumulator(str(tmp_path))
    log.Reload()
    content = log.SummaryMetadata(EXPERIMENT_TAG).plugin_data.content
    experiment = HParamsPluginData.FromString(content).experiment
    assert [info.name.tag for info in experiment.metric_infos] == [f"metric/{name}" for name in METRICS]
    names = [info.name for info in experiment.hparam_infos]
    assert names[:2] == ["scenario", "agent"]
    assert {"load.policy", "connections.policy", "scaling.policy"} <= set(names)


def test_the_metrics_of_an_episode_follow_from_its_curves(
    learned: tuple[EpisodeResult, list[dict[str, Any]]],
) -> None:
    """Load variance and churn of the whole episode: the mean of the steps, and their sum per minute of 75 s."""
    result, infos = learned
    whole, steps = result.metrics["whole"], [step_scalars(info) for info in infos]
    assert whole["load_variance"] == pytest.approx(np.mean([step["cluster/load_variance"] for step in steps]))
    assert whole["load_variance"] > 0.0
    churn = sum(step["cluster/connection_churn"] for step in steps)
    assert churn > 0.0
    assert whole["connection_churn"] == pytest.approx(churn / 75.0 * 60.0)


@pytest.mark.parametrize("environment", ["LoadShifting-v0", "Connections-v0", "Scaling-v0"])
def test_every_environment_has_them(environment: str) -> None:
    env = gym.make(f"envs:imbres_gym/{environment}", scenario=fakes.scenario(125.0), disable_env_checker=True)
    env.reset(seed=3000)
    info = env.step(env.action_space.sample())[4]
    env.close()
    assert set(step_scalars(info)) >= PROMISED
