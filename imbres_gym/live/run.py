"""One live run: an agent in `imbres_gym/LiveCluster-v0` until its time is over or somebody stops it."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from imbres_gym.agent import AgentConfig, load_agent_config, make_agent
from imbres_gym.config import ConfigError
from imbres_gym.live.config import LiveConfig
from imbres_gym.live.journal import Journal
from imbres_gym.live.metrics import LiveMetrics
from imbres_gym.live.metrics_server import MetricsServer
from imbres_gym.live.stop import Stop

REHEARSED_INTERVALS = 3
REHEARSED_INTERVAL_S = 0.05
"""Control intervals of the rehearsal and their length [s]: as short as the sources of telemetry answer."""


@dataclass(frozen=True)
class LiveRun:
    """What is run.

    Attributes:
        config: of the run.
        context, kubeconfig: which cluster, see `imbres_gym.live.kube.connect`.
        agent: of the run.
        dry_run: whether nothing is changed.
        duration_s: when it ends by itself; None for never.
        out: folder for the journal and TensorBoard's log; None for neither.
    """

    config: LiveConfig
    context: str
    kubeconfig: Path | None
    agent: AgentConfig
    dry_run: bool = False
    duration_s: float | None = None
    out: Path | None = None


def load_agent(reference: str) -> AgentConfig:
    """An agent that can run live.

    Raises:
        ConfigError: there is no such agent, or it needs what only a simulation has.
    """
    agent = load_agent_config(reference)
    if agent.sees_scenario:
        raise ConfigError(f"agent {agent.name!r}: it looks into the simulator (sees_scenario), and so cannot run live")
    return agent


def run_live(run: LiveRun, stream: TextIO) -> None:
    """Run until the end; the cluster is left as configured, however it ends.

    Args:
        run: what to run.
        stream: gets the journal, too.

    Raises:
        ConfigError: refused before the first action.
        LeadershipLost: another controller has taken over; nothing was given back.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM, after the cluster was left as configured.
        BrokenPipeError: nobody reads the stream any more; likewise.
    """
    with contextlib.ExitStack() as stack:
        streams = [stream]
        folder = None if run.out is None else _make_folder(run.out)
        if folder is not None:
            streams.append(stack.enter_context((folder / "journal.jsonl").open("a", encoding="utf-8")))
        stop = stack.enter_context(Stop())
        metrics = LiveMetrics(limit_s=max(30.0, 3.0 * run.config.control_interval_s))
        if run.config.metrics_port is not None:
            stack.callback(_serve(run.config.metrics_port, metrics).close)
        env = _make_env(run, Journal(streams), metrics)
        stack.callback(env.close)
        try:
            _rehearse(run)
            _play(env, run, None if folder is None else folder / "tensorboard")
        finally:
            # Whatever ended the run: a signal that came while the cluster is given back would cut that off.
            stop.ignore_signals()


def _rehearse(run: LiveRun) -> None:
    """Decide a few times without a word and without a change, so that what a decision takes is compiled.

    That takes half a minute of CPU after an installation, and minutes where CPU is scarce: too long for a controller
    that leads, whose plans would expire meanwhile. Left to the run is what needs more requests than come so soon: a
    second of compiling at the first change of replica counts.
    """
    interval = {"control_interval_s": REHEARSED_INTERVAL_S, "scaling_interval_s": REHEARSED_INTERVAL_S}
    options = dict(run.agent.options)
    if isinstance(table := options.get("table"), dict):  # others read it in Redis: each measurement counts once there
        options["table"] = {key: value for key, value in table.items() if key != "redis"}
    rehearsal = replace(
        run,
        config=run.config.model_copy(update=interval),
        agent=run.agent.model_copy(update={"scaling_interval_s": None, "options": options}),
        dry_run=True,
        duration_s=REHEARSED_INTERVALS * REHEARSED_INTERVAL_S,
    )
    with contextlib.closing(_make_env(rehearsal, Journal(), LiveMetrics())) as env:
        _play(env, rehearsal, None)


def _make_env(run: LiveRun, journal: Journal, metrics: LiveMetrics) -> Any:
    import gymnasium as gym

    return gym.make(
        "envs:imbres_gym/LiveCluster-v0",
        disable_env_checker=True,
        config=run.config,
        context=run.context,
        kubeconfig=run.kubeconfig,
        dry_run=run.dry_run,
        duration=run.duration_s,
        scaling_interval_s=run.agent.scaling_interval_s,
        journal=journal,
        metrics=metrics,
    )


def _play(env: Any, run: LiveRun, logs: Path | None) -> None:
    from imbres_gym.live.board import Board

    live = env.unwrapped
    agent = make_agent(run.agent, live.cluster_info, run.config.seed, live.scenario)
    observation, _ = env.reset(seed=run.config.seed)
    state: Any = None
    first, over = True, False
    with contextlib.closing(Board(logs, live.cluster_info)) as board:
        while not over:
            before = time.perf_counter()
            action, state = agent.predict(observation, state, np.array([first]), deterministic=True)
            decision_ms = {**getattr(agent, "decision_ms", {}), "total": (time.perf_counter() - before) * 1000.0}
            observation, _, terminated, truncated, info = env.step(action)
            board.add(live.telemetry, info, decision_ms, bool(live.cluster.reasons))
            first, over = False, terminated or truncated


def _serve(port: int, metrics: LiveMetrics) -> MetricsServer:
    try:
        return MetricsServer(
            port, metrics.registry, lambda: metrics.heartbeat.alive, "no control interval ended in time"
        )
    except OSError as error:
        raise ConfigError(f"metrics_port: {port}: {error.strerror}; choose another") from None


def _make_folder(out: Path) -> Path:
    """A folder for this run inside `out`, by its start: a restart writes beside what there is."""
    folder = out / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}") from None
    return folder
