"""Figures of a comparison, one file per scenario and kind.

Load vs capacity vs SLA over time; containers and violations per agent; the distribution of the E2E latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.evaluation.aggregate import AggregateTable
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.metrics import QUANTILE_LEVELS
from imbres_gym.evaluation.profile_figure import draw_profiles
from imbres_gym.evaluation.report import Row
from imbres_gym.evaluation.style import (
    CAPACITY,
    FAINT,
    INK,
    LOAD,
    STYLE,
    VIOLATION,
    colour,
    line_style,
    new_figure,
)
from imbres_gym.evaluation.task import slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_figures(
    results: Sequence[EpisodeResult], rows: Sequence[Row], folder: Path, aggregated: AggregateTable | None = None
) -> list[Path]:
    """Draw every figure and write it as PNG; returns the files, over-time figures first.

    `SCENARIO.over-time.png`, `SCENARIO.agents.png` and `SCENARIO.latency.png`; and, where there is an aggregate over
    several scenarios, `performance-profiles.png`.
    """
    import matplotlib as mpl

    scenarios = list(dict.fromkeys(result.scenario for result in results))
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, list[Path]] = {"over-time": [], "agents": [], "latency": []}
    with mpl.rc_context(STYLE):
        for scenario in scenarios:
            episodes = [result for result in results if result.scenario == scenario]
            figures = {
                "over-time": draw_over_time(episodes),
                "agents": draw_agents([row for row in rows if row.scenario == scenario]),
                "latency": draw_latency(episodes),
            }
            for kind, figure in figures.items():
                path = folder / f"{slug(scenario)}.{kind}.png"
                figure.savefig(path, dpi=150)
                written[kind].append(path)
        if aggregated is not None:
            path = folder / "performance-profiles.png"
            draw_profiles(results, aggregated.reference).savefig(path, dpi=150)
            written["profiles"] = [path]
    return [path for paths in written.values() for path in paths]


def _by_agent(episodes: Sequence[EpisodeResult]) -> dict[str, list[EpisodeResult]]:
    agents: dict[str, list[EpisodeResult]] = {}
    for episode in episodes:
        agents.setdefault(episode.agent, []).append(episode)
    return agents


def _minutes(seconds: NDArray[np.float64] | float) -> Any:
    return np.asarray(seconds) / 60.0


def draw_over_time(episodes: Sequence[EpisodeResult]) -> Figure:
    """Load vs capacity (left) and latency vs SLA (right) over time, one row per agent: the first seed of each.

    Capacity is an estimate, see `imbres_gym.evaluation.recorder.capacity_rps`. The latency is the p95 of the slowest
    request class, per control interval and per 60 s window; windows above the SLA are shaded, and so is the warm-up.
    """
    agents = _by_agent(episodes)
    figure = new_figure(11.0, 1.1 + 2.3 * len(agents))
    axes = figure.subplots(len(agents), 2, sharex=True, sharey="col", squeeze=False)
    most_containers = max(float(runs[0].series["containers"].max()) for runs in agents.values())
    for (agent, runs), (left, right) in zip(agents.items(), axes, strict=True):
        _draw_load(left, runs[0], most_containers)
        _draw_latency_over_time(right, runs[0])
        left.set_title(agent)
        settled = runs[0].metrics["settled"]
        right.set_title(f"{settled['sla_violation']:.0%} of windows above the SLA", fontweight="normal")
        for axis in (left, right):
            _mark_warmup(axis, runs[0])
    _set_over_time_limits(axes, [runs[0] for runs in agents.values()])
    for axis in axes[-1]:
        axis.set_xlabel("time [min]")
    first = episodes[0]
    figure.suptitle(f"{first.scenario}: load, capacity and SLA over time (seed {first.seed})", color=INK)
    for axis in axes[-1]:
        # Below the lowest row, where it hides no curve.
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=4, fontsize=8.5)
    return figure


def _set_over_time_limits(axes: Any, episodes: list[EpisodeResult]) -> None:
    """Common limits per column; a log axis for latency, because an overload is seconds and an SLA a fraction of one."""
    from matplotlib.ticker import LogLocator

    sla = episodes[0].sla_ms
    peak = max(float(episode.series["p95_ms"].max()) for episode in episodes)
    lowest = min(float(episode.series["p95_ms"].max(axis=1).min()) for episode in episodes)
    axes[0][0].set_ylim(0.0, 1.08 * max(_highest_load(episode) for episode in episodes))
    axes[0][1].set_yscale("log")
    axes[0][1].set_ylim(max(1.0, 0.8 * min(lowest, sla / 2.0)), 1.3 * max(peak, 2.0 * sla))
    axes[0][0].set_xlim(0.0, _minutes(max(float(episode.series["time_s"][-1]) for episode in episodes)))
    for axis in axes[:, 1]:
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")


def _highest_load(episode: EpisodeResult) -> float:
    series = episode.series
    return max(float(series["workload_rps"].sum(axis=1).max()), float(series["capacity_rps"].max()), 1.0)


def _draw_load(axis: Axes, episode: EpisodeResult, most_containers: float) -> None:
    series, time = episode.series, _minutes(episode.series["time_s"])
    workload = series["workload_rps"].sum(axis=1)
    axis.plot(time, workload, color=LOAD, lw=1.2, label="workload")
    axis.step(time, series["capacity_rps"], where="post", color=CAPACITY, lw=1.6, label="capacity at 50 % CPU (est.)")
    axis.set_ylabel("requests/s")
    twin = axis.twinx()
    twin.step(time, series["containers"], where="post", color=FAINT, lw=1.1, ls="--")
    axis.plot([], [], color=FAINT, lw=1.1, ls="--", label="containers (right axis)")
    twin.set_ylim(0.0, 1.25 * most_containers)
    twin.grid(visible=False)
    twin.tick_params(axis="y", colors=FAINT)


def _draw_latency_over_time(axis: Axes, episode: EpisodeResult) -> None:
    windows = episode.windows
    p95 = episode.series["p95_ms"].max(axis=1)
    axis.plot(_minutes(episode.series["time_s"]), p95, color=FAINT, lw=0.8, label=f"p95 of {_step(episode)} s")
    edges = np.append(windows["start_s"], windows["end_s"][-1])
    ceiling = float(episode.series["p95_ms"].max())
    level = np.where(np.isfinite(windows["p95_ms"]), windows["p95_ms"], ceiling).max(axis=1)
    axis.stairs(level, _minutes(edges), color=LOAD, lw=1.7, baseline=None, label="p95 of 60 s")
    axis.axhline(episode.sla_ms, color=VIOLATION, lw=1.2, ls="--", label=f"SLA {episode.sla_ms:g} ms")
    axis.fill_between([], [], [], color=VIOLATION, alpha=0.18, lw=0, label="window above SLA")
    for start, end in zip(windows["start_s"][windows["violated"]], windows["end_s"][windows["violated"]], strict=True):
        axis.axvspan(float(_minutes(start)), float(_minutes(end)), color=VIOLATION, alpha=0.18, lw=0)
    axis.set_ylabel("p95 of the slowest class [ms]" if len(episode.classes) > 1 else "E2E p95 [ms]")


def _step(episode: EpisodeResult) -> str:
    return f"{float(np.median(episode.series['interval_s'])):g}"


def _mark_warmup(axis: Axes, episode: EpisodeResult) -> None:
    if episode.warmup_s > 0.0:
        end = float(_minutes(episode.warmup_s))
        axis.axvspan(0.0, end, facecolor="#F2F2F2", edgecolor="#DDDDDD", hatch="///", lw=0, zorder=0)
        axis.text(
            end / 2.0,
            0.03,
            "warm-up",
            transform=axis.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color="#888888",
        )


def draw_agents(rows: Sequence[Row]) -> Figure:
    """Containers and violations per agent: means over seeds with 95 % intervals (Student t)."""
    figure = new_figure(11.0, 1.5 + 0.42 * max(3, len(rows)))
    panels = (
        ("containers", "containers (time average)", 1.0),
        ("sla_violation", "60 s windows with p95 above the SLA [%]", 100.0),
        ("request_violation", "requests slower than the SLA or failed [%]", 100.0),
    )
    positions = np.arange(len(rows))
    axes = figure.subplots(1, len(panels), sharey=True)
    for axis, (metric, label, scale) in zip(axes, panels, strict=True):
        estimates = [row.metrics[metric] for row in rows]
        means = np.array([estimate.mean for estimate in estimates]) * scale
        lows = np.array([estimate.low for estimate in estimates]) * scale
        highs = np.array([estimate.high for estimate in estimates]) * scale
        axis.barh(positions, means, height=0.62, color=[colour(i) for i in range(len(rows))], alpha=0.85)
        axis.errorbar(means, positions, xerr=[means - lows, highs - means], fmt="none", ecolor=INK, lw=1.2, capsize=3)
        span = max(float(highs.max()), 1.0 if scale > 1.0 else 0.0)
        for position, mean, high in zip(positions, means, highs, strict=True):
            axis.text(high + 0.03 * span, position, f"{mean:.1f}", va="center", fontsize=9, color=INK)
        axis.set_xlim(0.0, 1.22 * span)
        if scale > 1.0:  # a share ends at 100 %, whatever room its label needs
            axis.set_xticks([tick for tick in axis.get_xticks() if 0.0 <= tick <= min(100.0, 1.22 * span)])
        axis.set_xlabel(label)
        axis.grid(visible=False, axis="y")
    axes[0].set_yticks(positions, [row.agent for row in rows])
    axes[0].invert_yaxis()
    seeds = {len(row.seeds) for row in rows}
    count = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)}-{max(seeds)}"
    spread = "mean" if seeds == {1} else "mean and 95 % interval"
    figure.suptitle(
        f"{rows[0].scenario} (SLA {rows[0].sla_ms:g} ms): {spread} over {count} seed{'s' * (count != '1')}", color=INK
    )
    return figure


def draw_latency(episodes: Sequence[EpisodeResult]) -> Figure:
    """Distribution of the E2E latency after the warm-up, all seeds together: body (left) and tail (right)."""
    figure = new_figure(11.0, 4.0)
    body, tail = figure.subplots(1, 2)
    everything = np.concatenate([episode.quantiles_ms for episode in episodes])
    fastest, slowest = float(everything.min()), float(everything.max())
    # Wider than the data, so that even requests that all failed, and so are all alike, make a curve.
    sla_ms = episodes[0].sla_ms
    grid = np.geomspace(max(0.9 * min(fastest, sla_ms), 0.01), 1.1 * max(slowest, sla_ms), 600)
    for index, (agent, runs) in enumerate(_by_agent(episodes).items()):
        share = np.mean([_share_below(grid, run.quantiles_ms) for run in runs], axis=0)
        style = {"color": colour(index), "ls": line_style(index), "lw": 1.8, "label": agent}
        body.plot(grid, 100.0 * share, **style)
        tail.plot(grid, np.where(share < 1.0 - 1e-5, 100.0 * (1.0 - share), np.nan), **style)
    for axis in (body, tail):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel("E2E latency [ms]; failed requests count as 10 s")
        axis.axvline(episodes[0].sla_ms, color=VIOLATION, lw=1.2, ls="--")
    body.axhline(95.0, color=FAINT, lw=1.0, ls=":")
    body.set_ylabel("requests that were faster [%]")
    body.set_ylim(0.0, 101.0)
    tail.axhline(5.0, color=FAINT, lw=1.0, ls=":")
    tail.set_yscale("log")
    tail.yaxis.set_major_formatter("{x:g}")
    tail.set_ylabel("requests that were slower [%]")
    tail.set_ylim(1e-3, 110.0)
    body.text(episodes[0].sla_ms, 3.0, f" SLA {episodes[0].sla_ms:g} ms", color=VIOLATION, fontsize=8.5, va="bottom")
    body.legend(loc="upper left")
    figure.suptitle(f"{episodes[0].scenario}: E2E latency of all requests after the warm-up", color=INK)
    return figure


def _share_below(grid: NDArray[np.float64], quantiles_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the requests at most as slow as each value of the grid."""
    return np.interp(grid, np.maximum.accumulate(quantiles_ms), QUANTILE_LEVELS, left=0.0, right=1.0)
