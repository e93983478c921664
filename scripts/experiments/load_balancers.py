"""The load balancers of today beside load shifting, with fixed replica counts: latency, and how load is spread.

Run from a checkout: `python scripts/experiments/load_balancers.py --workers 2`. Every scheme has the same containers;
what differs is who picks the container of a call (by the weights of a plan, or the client by what it has seen), and
among how many: all of them, or ten random ones. Weights that follow load shifting move load between hosts every 5 s;
the others decide call by call.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from imbres_gym.agent import AgentConfig, load_agent_config  # noqa: E402
from imbres_gym.evaluation.episode import EpisodeResult, run_episode  # noqa: E402
from imbres_gym.evaluation.executor import Executor  # noqa: E402
from imbres_gym.evaluation.markdown import table  # noqa: E402
from imbres_gym.evaluation.recorder import Interval  # noqa: E402
from imbres_gym.evaluation.report import summarise  # noqa: E402
from imbres_gym.evaluation.statistics import mean_interval  # noqa: E402
from imbres_gym.evaluation.task import EpisodeTask  # noqa: E402
from imbres_gym.scenario import load_scenario  # noqa: E402
from scripts.experiments.runs import (  # noqa: E402
    cell,
    evaluation_seeds,
    extremes,
    measure_episodes,
    number,
    run_from_command_line,
    run_time,
)

BALANCERS = {
    "balanced weights": "hpa-full",
    "load shifting": "ls-fc",
    "least request": "p2c",
    "peak-EWMA": "peak-ewma",
    "weighted round robin": "wrr",
    "Prequal": "prequal",
}
"""Name -> the shipped agent whose load tier it has."""

CONNECTIONS = {"full": "hpa-full", "random 10": "hpa"}
"""Name -> the shipped agent whose connection tier it has."""


@dataclass(frozen=True)
class Settings:
    """What is run; the defaults are the experiment.

    Attributes:
        utilisation: initial utilisation of the containers, which sets their number.
    """

    scenario: str = "social-network/high-strict"
    utilisation: float = 0.45
    duration_s: float = 300.0
    warmup_s: float = 120.0
    seeds: int = 3


@dataclass(frozen=True)
class Measured:
    """One episode.

    Attributes:
        result: of the evaluation.
        host_load: (H,) share of all calls that each host got.
        load_cv: coefficient of variation of the calls over the containers of a microservice, of that where it is
            largest.
    """

    result: EpisodeResult
    host_load: NDArray[np.float64]
    load_cv: float


def measure(task: EpisodeTask) -> Measured:
    """Run an episode and sum up the load of each container and host."""
    hosts: list[NDArray[np.float64]] = []
    containers: list[NDArray[np.float64]] = []
    of_microservice: list[NDArray[np.int64]] = []

    def collect(interval: Interval) -> None:
        telemetry = interval.telemetry
        if telemetry.time_s > task.warmup_s:
            hosts.append(telemetry.load_rps.sum(axis=0))
            containers.append(telemetry.container_rps)
            of_microservice.append(telemetry.container_microservice)

    result = run_episode(task, collect)
    # Replica counts are fixed, so the rows are the same containers in every interval.
    load, microservice = np.mean(containers, axis=0), of_microservice[0]
    spreads = [load[microservice == m].std() / load[microservice == m].mean() for m in np.unique(microservice)]
    total = np.sum(hosts, axis=0)
    return Measured(result, total / total.sum(), float(max(spreads)))


def experiment(settings: Settings, out: Path, executor: Executor) -> str:
    """Run every balancer with every connection scheme; returns the report (Markdown). Nothing is kept in `out`."""
    scenario = load_scenario(settings.scenario, initial_utilisation=settings.utilisation, duration=settings.duration_s)
    tasks = [
        EpisodeTask(scenario.name, scenario, agent.name, agent, seed, settings.warmup_s)
        for agent in agents()
        for seed in evaluation_seeds(settings.seeds)
    ]
    measured = measure_episodes(tasks, measure, executor)
    containers = sum(scenario.replicas_at_start().values())
    parts = [
        f"{scenario.name}, {containers} containers, {settings.duration_s:g} s of which the first "
        f"{settings.warmup_s:g} s are left out, {settings.seeds} seeds.",
        report(measured),
        run_time([item.result for item in measured]),
    ]
    return "\n\n".join(parts) + "\n"


def agents() -> list[AgentConfig]:
    """Every balancer with every connection scheme, with fixed replica counts."""
    static = load_agent_config("static")
    made = []
    for connections, source in CONNECTIONS.items():
        for balancer, agent in BALANCERS.items():
            tiers = {
                "load": load_agent_config(agent).options["load"],
                "connections": load_agent_config(source).options["connections"],
            }
            name = f"{balancer}, {connections}"
            made.append(static.model_copy(update={"name": name, "options": {**static.options, **tiers}}))
    return made


def report(measured: Sequence[Measured]) -> str:
    """One row per scheme."""
    rows = []
    for row in summarise([item.result for item in measured]):
        mine = [item for item in measured if item.result.agent == row.agent]
        p95 = [item.result.metrics["settled"]["p95_ms"] for item in mine]
        shares = np.mean([item.host_load for item in mine], axis=0)
        rows.append(
            [
                row.agent,
                extremes(p95),
                cell("request_violation", row.metrics["request_violation"]),
                number(mean_interval([item.load_cv for item in mine])),
                " / ".join(f"{100.0 * share:.0f}" for share in shares),
            ]
        )
    header = ["scheme", "p95, ms", "requests > SLA, %", "largest CV of load", "load per host, %"]
    return table(header, rows)


if __name__ == "__main__":
    run_from_command_line(__doc__, "runs/load-balancers", lambda out, executor: experiment(Settings(), out, executor))
