"""One whole episode: an agent in the environment, everything recorded, judged at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.agent import Agent, make_agent
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.metrics import Recording, cut_windows, episode_metrics, latency_quantiles
from imbres_gym.evaluation.recorder import Interval, Recorder
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.scenario import load_scenario
from imbres_gym.telemetry import Telemetry


@dataclass(frozen=True)
class EpisodeResult:
    """What is kept of an episode.

    Attributes:
        scenario, agent: names as tables show them.
        seed: of the cluster and of the agent.
        sla_ms: target of the p95.
        duration_s, warmup_s: length of the episode; its start that `metrics["settled"]` leaves out.
        classes, microservices: names in the order of the arrays.
        fingerprint: what the result depends on, see `EpisodeTask.fingerprint`.
        agent_config: the agent's configuration.
        metrics: "settled" (after the warm-up; what summaries show) and "whole" -> metric -> value.
        series: name -> array with one row per control interval, see `Recorder.series`.
        windows: "start_s", "end_s", "p95_ms", "violated" of the settled part, see `imbres_gym.evaluation.metrics`.
        quantiles_ms: E2E latency of the settled part at `QUANTILE_LEVELS`.
        wall_s: how long the episode took to run; machine-dependent.
    """

    scenario: str
    agent: str
    seed: int
    sla_ms: float
    duration_s: float
    warmup_s: float
    classes: tuple[str, ...]
    microservices: tuple[str, ...]
    fingerprint: dict[str, str]
    agent_config: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    series: dict[str, NDArray[Any]]
    windows: dict[str, NDArray[Any]]
    quantiles_ms: NDArray[np.float64]
    wall_s: float


def run_episode(
    task: EpisodeTask,
    on_interval: Callable[[Interval], None] | None = None,
    on_action: Callable[[Any, Telemetry], None] | None = None,
) -> EpisodeResult:
    """Run one episode from its seed to its end.

    Args:
        task: which one.
        on_interval: called after every control interval, for live progress.
        on_action: called with every action and what was measured after it, to record them.

    Raises:
        ConfigError: the agent cannot be built.
    """
    import gymnasium as gym

    started = time.perf_counter()
    scenario = task.scenario
    if task.agent.trace_sampling is not None:
        scenario = load_scenario(scenario, trace_sampling=task.agent.trace_sampling)
    options: dict[str, Any] = {"scenario": scenario}
    if task.agent.scaling_interval_s is not None:
        options["scaling_interval_s"] = task.agent.scaling_interval_s
    with _blaming(task):
        env = gym.make(task.environment, disable_env_checker=True, **options)
    try:
        cluster_info = env.unwrapped.cluster_info  # type: ignore[attr-defined]
        with _blaming(task):
            agent = make_agent(task.agent, cluster_info, task.seed, task.scenario)
        recorder = Recorder(task.scenario)
        _play(env, agent, task.seed, recorder, on_interval, on_action)
    finally:
        env.close()
    return _judge(task, recorder, tuple(cluster_info.microservices), started)


@contextlib.contextmanager
def _blaming(task: EpisodeTask) -> Iterator[None]:
    """Say which agent a configuration error is about: of several, and of the scenario that is read already."""
    try:
        yield
    except ConfigError as error:
        start = f"agent {task.agent_name!r}"
        raise ConfigError(str(error) if str(error).startswith(start) else f"{start}: {error}") from error


def _play(
    env: Any,
    agent: Agent,
    seed: int,
    recorder: Recorder,
    on_interval: Callable[[Interval], None] | None,
    on_action: Callable[[Any, Telemetry], None] | None,
) -> None:
    """Let the agent act until the episode ends; only `predict` is timed."""
    observation, _ = env.reset(seed=seed)
    state: Any = None
    first, over = True, False
    while not over:
        before = time.perf_counter()
        action, state = agent.predict(observation, state, np.array([first]), deterministic=True)
        decision_ms = {"total": (time.perf_counter() - before) * 1000.0}
        tiers: dict[str, float] = getattr(agent, "decision_ms", {})
        observation, reward, terminated, truncated, info = env.step(action)
        telemetry: Telemetry = env.unwrapped.telemetry
        if on_action is not None:
            on_action(action, telemetry)
        interval = recorder.add(telemetry, info, float(reward), {**tiers, **decision_ms})
        if on_interval is not None:
            on_interval(interval)
        first, over = False, terminated or truncated


def _judge(task: EpisodeTask, recorder: Recorder, microservices: tuple[str, ...], started: float) -> EpisodeResult:
    whole: Recording = recorder.recording()
    settled = whole.since(task.warmup_s)
    sla_ms = task.scenario.sla_ms
    windows = cut_windows(settled, sla_ms)
    return EpisodeResult(
        scenario=task.scenario_name,
        agent=task.agent_name,
        seed=task.seed,
        sla_ms=sla_ms,
        duration_s=task.scenario.duration,
        warmup_s=task.warmup_s,
        classes=task.scenario.application.class_names,
        microservices=microservices,
        fingerprint=task.fingerprint(),
        agent_config=task.agent.model_dump(mode="json"),
        metrics={"settled": episode_metrics(settled, sla_ms), "whole": episode_metrics(whole, sla_ms)},
        series=recorder.series(),
        windows={
            "start_s": windows.start_s,
            "end_s": windows.end_s,
            "p95_ms": windows.p95_ms,
            "violated": windows.violated,
        },
        quantiles_ms=latency_quantiles(settled),
        wall_s=time.perf_counter() - started,
    )
