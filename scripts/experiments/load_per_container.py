"""Why random partial connection costs so much (Fig. 3(a) and 4(a) of the paper): the load of each container.

Run from a checkout: `python scripts/experiments/load_per_container.py`. Replica counts are fixed, and alike for every
scheme; what differs is who is connected to whom, and whether load is shifted. When each of n upstream containers picks
k of N downstream containers at random, the number of callers of a downstream container is binomial: some have none,
some have twice as many as they should, whatever the load proportions say.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
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
from imbres_gym.scenario import Scenario, load_scenario  # noqa: E402
from scripts.experiments.plotting import COLOURS, new_figure, save  # noqa: E402
from scripts.experiments.runs import (  # noqa: E402
    cell,
    evaluation_seeds,
    extremes,
    measure_episodes,
    number,
    run_from_command_line,
    run_time,
)

SCHEMES = {
    "balanced, full": "hpa-full",
    "balanced, random 10": "hpa",
    "shifted, full": "ls-fc",
    "shifted, random 10": "ls-rc",
    "shifted, groups": "imbres",
}
"""Name -> the shipped agent whose load and connection tiers it has."""

IDLE = 0.1
"""A container with less than this share of the mean load counts as left out."""


@dataclass(frozen=True)
class Settings:
    """What is run; the defaults are the experiment."""

    scenario: str = "social-network/high-strict"
    microservice: str = "post-storage-service"
    """The downstream microservice that is looked at: the largest one that other microservices call."""
    duration_s: float = 600.0
    warmup_s: float = 120.0
    seeds: int = 5


@dataclass(frozen=True)
class Measured:
    """One episode.

    Attributes:
        result: of the evaluation.
        load: (n,) mean requests/s of each container over their mean.
        cpu: (n,) mean CPU use of each container as a share of its quota.
        swing: standard deviation over time of the load proportion of a host [0-1], mean over hosts.
    """

    result: EpisodeResult
    load: NDArray[np.float64]
    cpu: NDArray[np.float64]
    swing: float


@dataclass(frozen=True)
class Expected:
    """What random picks lead to, by calculation.

    Attributes:
        left_out: chance that a downstream container has no caller at all [0-1].
        cv: coefficient of variation of the load over downstream containers.
    """

    left_out: float
    cv: float


def measure(task: EpisodeTask, microservice: str) -> Measured:
    """Run an episode and record the load of each container of a microservice."""
    index = task.scenario.application.microservice_names.index(microservice)
    load: dict[int, list[float]] = defaultdict(list)
    cpu: dict[int, list[float]] = defaultdict(list)
    proportions: list[NDArray[np.float64]] = []

    def collect(interval: Interval) -> None:
        telemetry = interval.telemetry
        if telemetry.time_s <= task.warmup_s:
            return
        proportions.append(telemetry.proportions[index])
        for row in np.flatnonzero(telemetry.container_microservice == index):
            container = int(telemetry.container_id[row])
            load[container].append(float(telemetry.container_rps[row]))
            cpu[container].append(float(telemetry.container_cpu[row]))

    result = run_episode(task, collect)
    mean_load = np.array([np.mean(values) for values in load.values()])
    return Measured(
        result,
        load=mean_load / mean_load.mean(),
        cpu=np.array([np.mean(values) for values in cpu.values()]),
        swing=float(np.std(proportions, axis=0).mean()),
    )


def experiment(settings: Settings, out: Path, executor: Executor) -> str:
    """Run every scheme; write the figure to `out`; returns the report (Markdown)."""
    scenario = load_scenario(settings.scenario, duration=settings.duration_s)
    tasks = [
        EpisodeTask(scenario.name, scenario, name, _agent(name), seed, settings.warmup_s)
        for name in SCHEMES
        for seed in evaluation_seeds(settings.seeds)
    ]
    measured = measure_episodes(tasks, partial(measure, microservice=settings.microservice), executor)
    _draw(measured, settings, out / "load-per-container.png")
    replicas = scenario.replicas_at_start()
    upstream = callers(scenario, settings.microservice)
    names = ", ".join(f"{replicas[name]} {name}" for name in upstream)
    expected = expect(scenario, settings.microservice)
    parts = [
        f"{replicas[settings.microservice]} containers of {settings.microservice}, called by {names}. With ten random "
        f"picks each, {expected.left_out:.1%} of them have no caller, and the load has a coefficient of variation of "
        f"{expected.cv:.2f}, by calculation.",
        _table(measured),
        run_time([item.result for item in measured]),
    ]
    return "\n\n".join(parts) + "\n"


def _agent(scheme: str) -> AgentConfig:
    tiers = load_agent_config(SCHEMES[scheme]).options
    static = load_agent_config("static")
    options = {**static.options, "load": tiers["load"], "connections": tiers["connections"]}
    return static.model_copy(update={"name": scheme, "options": options})


def callers(scenario: Scenario, microservice: str) -> dict[str, float]:
    """Share of a microservice's calls that each of its upstream microservices makes [0-1]."""
    calls: dict[str, float] = defaultdict(float)
    for request in scenario.application.request_classes.values():
        for call, visits in request.tree.walk(request.share):
            for child in (child for stage in call.stages for child in stage):
                if child.target == microservice:
                    calls[call.target] += visits * child.repeat * child.probability
    total = sum(calls.values())
    return {name: value / total for name, value in calls.items()}


def expect(scenario: Scenario, microservice: str, picks: int = 10) -> Expected:
    """The load of the downstream containers if each upstream container of n_u picks `picks` of the N at random.

    A pick is made with chance p = picks / N. The load of a container is a sum over upstream microservices of binomial
    counts, each count of the weight r_u / (n_u picks), with r_u the share of the calls; its mean is 1 / N and its
    squared coefficient of variation sum_u r_u^2 (1 - p) / (n_u p). No caller at all: prod_u (1 - p)^n_u.
    """
    replicas = scenario.replicas_at_start()
    p = min(1.0, picks / replicas[microservice])
    shares = callers(scenario, microservice)
    left_out = math.prod((1.0 - p) ** replicas[name] for name in shares)
    squared_cv = sum(share**2 * (1.0 - p) / (replicas[name] * p) for name, share in shares.items())
    return Expected(left_out, math.sqrt(squared_cv))


def _table(measured: Sequence[Measured]) -> str:
    rows = {row.agent: row.metrics for row in summarise([item.result for item in measured])}
    lines = []
    for scheme, metrics in rows.items():
        mine = [item for item in measured if item.result.agent == scheme]
        lines.append(
            [
                scheme,
                cell("p95_ms", metrics["p95_ms"]),
                cell("request_violation", metrics["request_violation"]),
                cell("connections", metrics["connections"]),
                number(mean_interval([float(item.load.std()) for item in mine])),
                number(mean_interval([100.0 * float((item.load < IDLE).mean()) for item in mine]), 1),
                number(mean_interval([float(item.load.max()) for item in mine])),
                number(mean_interval([100.0 * float(item.cpu.max()) for item in mine]), 0),
                number(mean_interval([100.0 * item.swing for item in mine]), 1),
                extremes([item.result.metrics["settled"]["p95_ms"] for item in mine]),
            ]
        )
    header = [
        "load, connection",
        "E2E p95, ms",
        "requests > SLA, %",
        "connections",
        "CV of load",
        f"containers with < {IDLE:.0%} of the mean load, %",
        "highest load / mean",
        "highest CPU, % of quota",
        "swing of proportions, points",
        "p95 of the seeds, ms",
    ]
    return table(header, lines)


def _draw(measured: Sequence[Measured], settings: Settings, path: Path) -> None:
    """The load of each container, sorted, one line per scheme: mean over the seeds."""
    figure, axes = new_figure(1, 1, (7.5, 3.8))
    axis = axes[0, 0]
    for colour, scheme in zip(COLOURS, SCHEMES, strict=False):
        loads = np.mean([np.sort(item.load) for item in measured if item.result.agent == scheme], axis=0)
        position = 100.0 * (np.arange(len(loads)) + 0.5) / len(loads)
        axis.plot(position, loads, color=colour, lw=1.8, ls="-" if "balanced" in scheme else "--", label=scheme)
    axis.set_xlabel(f"containers of {settings.microservice}, by load [%]")
    axis.set_ylabel("load of the container / mean")
    axis.set_ylim(bottom=0.0)
    axis.legend(frameon=False)
    save(figure, path)


if __name__ == "__main__":
    run_from_command_line(
        __doc__, "runs/load-per-container", lambda out, executor: experiment(Settings(), out, executor)
    )
