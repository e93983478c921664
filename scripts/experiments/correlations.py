"""Section 6.3 of the paper: how own latency goes with interference, and with load, while load is shifted.

Run from a checkout: `python scripts/experiments/correlations.py`. Spearman's rank correlation over containers, in every
iteration, averaged over iterations. The latency of each container comes from the spans of all requests. The paper does
not say whether containers of different microservices are pooled, so there are three readings:

- each microservice by itself (those with at least five containers), and the mean of them;
- all containers together, latency and load relative to the mean of their microservice;
- all containers together, as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from imbres_gym.agent import load_agent_config  # noqa: E402
from imbres_gym.evaluation.episode import EpisodeResult, run_episode  # noqa: E402
from imbres_gym.evaluation.executor import Executor  # noqa: E402
from imbres_gym.evaluation.markdown import table  # noqa: E402
from imbres_gym.evaluation.recorder import Interval  # noqa: E402
from imbres_gym.evaluation.statistics import mean_interval  # noqa: E402
from imbres_gym.evaluation.task import EpisodeTask  # noqa: E402
from imbres_gym.scenario import load_scenario  # noqa: E402
from imbres_gym.telemetry import Telemetry  # noqa: E402
from scripts.experiments.plotting import COLOURS, draw_band, new_figure, save  # noqa: E402
from scripts.experiments.runs import (  # noqa: E402
    evaluation_seeds,
    measure_episodes,
    number,
    run_from_command_line,
    run_time,
)

Floats = NDArray[np.float64]

FEWEST_CONTAINERS = 5
READINGS = ("each microservice", "all, relative", "all, as they are")
SHIFTING, BALANCED = "load-shifting", "static"
PAPER = {"interference": 0.87, "load": -0.62}
"""For Social Network; what own latency is correlated with -> coefficient."""


@dataclass(frozen=True)
class Settings:
    """What is run; the defaults are the experiment."""

    scenario: str = "social-network/high-strict"
    iterations: int = 20
    seeds: int = 5


@dataclass(frozen=True)
class Measured:
    """One episode: `coefficients` is (iterations, readings, 2); the last axis is interference, load."""

    result: EpisodeResult
    coefficients: Floats


def measure(task: EpisodeTask) -> Measured:
    """Run an episode and record its correlations."""
    coefficients: list[Floats] = []

    def collect(interval: Interval) -> None:
        coefficients.append(correlations(interval.telemetry))

    result = run_episode(task, collect)
    return Measured(result, np.array(coefficients))


def experiment(settings: Settings, out: Path, executor: Executor) -> str:
    """Run every seed; write the figure to `out`; returns the report (Markdown)."""
    scenario = load_scenario(settings.scenario, trace_sampling=1.0)
    scenario = load_scenario(scenario, duration=(settings.iterations + 1) * scenario.control_interval_s)
    tasks = [
        EpisodeTask(scenario.name, scenario, agent, load_agent_config(agent), seed, warmup_s=0.0)
        for agent in (SHIFTING, BALANCED)
        for seed in evaluation_seeds(settings.seeds)
    ]
    measured = measure_episodes(tasks, measure, executor)
    coefficients = {
        agent: np.array([item.coefficients for item in measured if item.result.agent == agent])
        for agent in (SHIFTING, BALANCED)
    }
    _draw(coefficients[SHIFTING], out / "correlations.png")
    results = [item.result for item in measured]
    return "\n\n".join([_table(coefficients), run_time(results)]) + "\n"


def container_latency(telemetry: Telemetry) -> Floats:
    """(N,) mean own latency of each container of the table [ms]; NaN where no span ended."""
    spans = telemetry.spans
    row = np.searchsorted(telemetry.container_id, spans["container"])
    row = np.minimum(row, len(telemetry.container_id) - 1)
    known = telemetry.container_id[row] == spans["container"]
    size = len(telemetry.container_id)
    total = np.bincount(row[known], spans["own_ms"][known], size)
    count = np.bincount(row[known], minlength=size)
    return np.asarray(np.divide(total, count, out=np.full(size, np.nan), where=count > 0))


def correlations(telemetry: Telemetry) -> Floats:
    """(readings, 2) Spearman correlation of own latency with interference and with load in one interval.

    The interference of a container is the mean utilisation of CPU, memory bandwidth and network of its host, the three
    that section 6.3 names.
    """
    latency = container_latency(telemetry)
    kept = telemetry.container_ready & np.isfinite(latency) & (telemetry.container_rps > 0.0)
    latency, load = latency[kept], telemetry.container_rps[kept]
    microservice = telemetry.container_microservice[kept]
    interference = telemetry.interference[telemetry.container_host[kept], :3].mean(axis=1)
    single: dict[int, Floats] = {}
    relative_latency, relative_load = np.ones_like(latency), np.ones_like(load)
    for index in np.unique(microservice):
        mine = microservice == index
        relative_latency[mine] = latency[mine] / latency[mine].mean()
        relative_load[mine] = load[mine] / load[mine].mean()
        if mine.sum() >= FEWEST_CONTAINERS:
            single[int(index)] = _both(latency[mine], interference[mine], load[mine])
    return np.array(
        [
            np.mean(list(single.values()), axis=0) if single else np.full(2, np.nan),
            _both(relative_latency, interference, relative_load),
            _both(latency, interference, load),
        ]
    )


def _both(latency: Floats, interference: Floats, load: Floats) -> Floats:
    return np.array([spearman(interference, latency), spearman(load, latency)])


def spearman(x: Floats, y: Floats) -> float:
    """Spearman's rank correlation [-1, 1]; NaN if one of them does not vary."""
    from scipy.stats import rankdata

    first, second = rankdata(x), rankdata(y)
    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _table(coefficients: Mapping[str, Floats]) -> str:
    """Of agent -> coefficients (seeds, iterations, readings, 2): means of iterations, and single iterations."""
    rows = []
    for column, (name, paper) in enumerate(PAPER.items()):
        for index, reading in enumerate(READINGS):
            shifting, balanced = (coefficients[agent][:, :, index, column] for agent in (SHIFTING, BALANCED))
            means = [np.nanmean(shifting, axis=1), shifting[:, 0], shifting[:, -1], np.nanmean(balanced, axis=1)]
            cells = [number(mean_interval(values.tolist(), (-1.0, 1.0))) for values in means]
            rows.append([f"{name}, {reading}", *cells, f"{paper:.2f}"])
    header = ["own latency with", "shifting, mean", "iteration 1", "last iteration", "balanced, mean", "paper"]
    return table(header, rows)


def _draw(coefficients: Floats, path: Path) -> None:
    figure, axes = new_figure(1, len(PAPER), (8.0, 3.4))
    for column, (name, paper) in enumerate(PAPER.items()):
        axis = axes[0, column]
        for index, (colour, reading) in enumerate(zip(COLOURS, READINGS, strict=False)):
            band = [mean_interval(at.tolist(), (-1.0, 1.0)) for at in coefficients[:, :, index, column].T]
            draw_band(axis, range(1, len(band) + 1), band, colour, reading)
        axis.axhline(paper, color="#333333", lw=1.0, ls="--", label="paper, mean of the iterations")
        axis.set_ylim(-1.0, 1.0)
        axis.set_xlabel("iteration (5 s)")
        axis.set_ylabel(f"own latency with {name}")
        axis.set_title("Spearman's rank correlation", fontsize=10)
    axes[0, 0].legend(frameon=False, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    run_from_command_line(__doc__, "runs/correlations", lambda out, executor: experiment(Settings(), out, executor))
