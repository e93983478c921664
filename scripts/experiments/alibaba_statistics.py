"""How generated clusters compare with what is published of Alibaba's: call graphs, hosts, Fig. 1 and 2 of the paper.

Run from a checkout: `python scripts/experiments/alibaba_statistics.py` (four minutes). It draws
`docs/images/alibaba-statistics.png` and prints the table of `docs/alibaba.md`. The real numbers are those of
`imbres_gym/alibaba/statistics.json`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from imbres_gym.alibaba.generator import GeneratedCluster, generate  # noqa: E402
from imbres_gym.alibaba.interference import host_levels, moving_interference  # noqa: E402
from imbres_gym.alibaba.statistics import (  # noqa: E402
    Histogram,
    branching_statistics,
    call_statistics,
    calls_of,
    levels_of,
    utilisation_statistics,
)
from imbres_gym.alibaba.trees import Tree, draw_tree, parts_of  # noqa: E402
from imbres_gym.evaluation.markdown import table  # noqa: E402
from imbres_gym.scenario import load_scenario  # noqa: E402
from imbres_gym.sim.events import EventCluster  # noqa: E402
from scripts.experiments.plotting import ALERT, COLOURS, FAINT, new_figure, save  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
REAL, OURS = FAINT, COLOURS[0]
SHOWN_HOSTS, SHOWN_MINUTES = 500, 60
FEWEST_HOSTS = 3
"""A microservice counts in Fig. 2 if it has containers on so many hosts."""
STRONG = 0.5
"""A rank correlation above this is strong: estimate, the paper does not say."""


@dataclass(frozen=True)
class Settings:
    """What is generated; the defaults are those of the figure."""

    services: int = 4000
    hosts: int = 500
    days: int = 8
    minutes: int = 60
    """Simulated for Fig. 2."""
    scenario: str = "alibaba/small"
    seed: int = 2000


@dataclass(frozen=True)
class Results:
    """What was generated and measured."""

    trees: tuple[Tree, ...]
    cluster: GeneratedCluster
    cpu: Floats
    """(minutes, hosts) utilisation [0-1]."""
    correlations: Floats
    """Rank correlation of each microservice: spread of latency with spread of interference, over minutes."""


def measure(settings: Settings) -> Results:
    """Generate and simulate."""
    rng = np.random.default_rng(settings.seed)
    trees = tuple(draw_tree(call_statistics(), branching_statistics(), 3000, rng) for _ in range(settings.services))
    cluster = generate(1500, 4000, settings.seed)
    levels = host_levels(settings.hosts, rng)
    cpu = moving_interference(levels).path(settings.hosts, settings.days * 1440, 60.0, rng)[:, :, 0]
    return Results(trees, cluster, cpu, imbalance_correlations(settings))


def imbalance_correlations(settings: Settings) -> Floats:
    """Spearman's correlation over minutes between the variance over hosts of interference and of own latency."""
    from scipy.stats import spearmanr

    engine = EventCluster(load_scenario(settings.scenario, duration=60.0 * settings.minutes))
    engine.reset(settings.seed)
    minutes = [engine.advance(60.0) for _ in range(settings.minutes)]
    latency = np.stack([np.where(m.samples > 0, m.own_latency_ms, np.nan) for m in minutes])
    cpu = np.stack([m.interference[:, 0] for m in minutes])
    found = []
    for row in range(latency.shape[1]):
        used = ~np.isnan(latency[:, row]).any(axis=0)
        if used.sum() >= FEWEST_HOSTS:
            spread = latency[:, row, used].var(axis=1)
            found.append(float(spearmanr(cpu[:, used].var(axis=1), spread).statistic))
    return np.array(found)


def request_of(tree: Tree, rng: np.random.Generator) -> tuple[int, int]:
    """Distinct calls and levels of one request."""
    made = rng.random(len(tree.parent)) < tree.probability
    for call in range(1, len(made)):
        made[call] &= made[tree.parent[call]]
    return int(made.sum()), int(tree.level[made].max())


def draw(results: Results, file: Path) -> None:
    """The figure."""
    figure, axes = new_figure(2, 4, (15.0, 6.4))
    known, utilisation = call_statistics(), utilisation_statistics()
    _heat(axes[0, 0], results.cpu[:SHOWN_MINUTES, :SHOWN_HOSTS])
    _quantiles(axes[0, 1], results.cpu)
    _autocorrelation(axes[0, 2], results.cpu, utilisation.autocorrelation)
    _correlations(axes[0, 3], results.correlations)
    rng = np.random.default_rng(0)
    requests = np.array([request_of(tree, rng) for tree in results.trees])
    fan_out = np.array([np.sum(tree.parent == 0) for tree in results.trees if np.all(tree.probability == 1.0)])
    _shares(axes[1, 0], requests[:, 0], known.per_request(calls_of), "distinct calls of a request")
    _shares(axes[1, 1], requests[:, 1], known.per_request(levels_of), "levels of a request")
    _shares(axes[1, 2], fan_out, known.per_request(lambda shape: len(parts_of(shape))), "calls of the entry")
    _large(axes[1, 3], results.trees)
    save(figure, file)


def _heat(axis: Axes, cpu: Floats) -> None:
    order = np.argsort(cpu.mean(axis=0))
    image = axis.imshow(cpu[:, order].T, aspect="auto", vmin=0.0, vmax=1.0, cmap="viridis", origin="lower")
    axis.figure.colorbar(image, ax=axis, label="CPU utilisation")
    axis.set(title="Hosts over an hour (Fig. 1)", xlabel="minute", ylabel="host, by its mean")
    axis.grid(visible=False)


def _quantiles(axis: Axes, cpu: Floats) -> None:
    values = np.quantile(cpu, np.linspace(0.0, 1.0, 201))
    axis.plot(values, np.linspace(0.0, 1.0, 201), color=OURS, label="generated")
    known = utilisation_statistics().quantiles
    axis.plot(list(known.values()), list(known), "o", color=ALERT, label="16 machines, v2018")
    axis.axvspan(0.1, 0.8, color="#EEEEEE", zorder=0, label="range in Fig. 1")
    axis.set(title="CPU utilisation of all hosts", xlabel="utilisation", ylabel="share at most")
    axis.legend()


def _autocorrelation(axis: Axes, cpu: Floats, known: dict[int, float]) -> None:
    axis.plot(list(known), [correlation(cpu, lag) for lag in known], color=OURS, label="generated")
    axis.plot(list(known), list(known.values()), "o", color=ALERT, label="14 machines in use, v2018")
    axis.set(title="Autocorrelation of a host", xlabel="minutes apart", xscale="log", ylim=(0.0, 1.0))
    axis.legend()


def correlation(cpu: Floats, lag: int) -> float:
    """Median over the hosts in use of the autocorrelation after `lag` minutes."""
    busy = cpu[:, cpu.mean(axis=0) > 0.1]
    return float(np.median([np.corrcoef(series[:-lag], series[lag:])[0, 1] for series in busy.T]))


def _correlations(axis: Axes, correlations: Floats) -> None:
    axis.step(np.sort(correlations), (np.arange(len(correlations)) + 1) / len(correlations), color=OURS, where="post")
    axis.axvline(STRONG, color=ALERT, lw=1.0, ls="--")
    axis.set(
        title="Microservices, small (Fig. 2)",
        xlabel="correlation of latency and imbalance",
        ylabel="share at most",
        xlim=(-1.0, 1.0),
    )


def _shares(axis: Axes, values: NDArray[np.int64], known: Histogram, name: str) -> None:
    shown = np.arange(min(int(known.values.min()), int(values.min())), 13)
    real = [float(known.chances[known.values == value].sum()) for value in shown]
    axis.bar(shown - 0.2, real, 0.4, color=REAL, label="real (v2022)")
    axis.bar(shown + 0.2, [np.mean(values == value) for value in shown], 0.4, color=OURS, label="generated")
    axis.set(title=name.capitalize(), xticks=shown[::2], ylabel="share")
    axis.legend()


def _large(axis: Axes, trees: tuple[Tree, ...]) -> None:
    sizes = np.sort([len(tree.parent) for tree in trees if np.any(tree.probability < 1.0)])
    known = call_statistics().large_sizes
    axis.plot(sizes, 1.0 - np.arange(len(sizes)) / len(sizes), color=OURS, label="generated")
    axis.plot(known, 1.0 - np.linspace(0.0, 1.0, len(known)), "o", ms=3, color=ALERT, label="real (v2022)")
    axis.set(title="Large services", xlabel="all distinct calls", ylabel="share at least", xscale="log", yscale="log")
    axis.legend()


def comparison(results: Results) -> str:
    """The table of published and generated numbers."""
    known, cpu = utilisation_statistics(), results.cpu
    busy = cpu[:, cpu.mean(axis=0) > 0.1]
    hour = cpu[:SHOWN_MINUTES, :SHOWN_HOSTS]
    changes = np.diff(cpu, axis=0)
    hours = busy.reshape(-1, 60, busy.shape[1]).std(axis=1).mean(axis=0)
    low, high = np.quantile(hour, (0.01, 0.99))
    at_once = np.quantile(hour, 0.95, axis=1) / np.quantile(hour, 0.05, axis=1)
    in_time = np.quantile(hour, 0.95, axis=0) / np.maximum(np.quantile(hour, 0.05, axis=0), 0.01)
    frequent = float(np.mean(np.abs(changes) > 0.3))
    strong = float(np.mean(results.correlations > STRONG))
    pairs, cluster = results.cluster.shared.pairs(), results.cluster
    callers = np.bincount(pairs[:, 1], minlength=len(cluster.kind))
    kinds = np.bincount(cluster.kind, minlength=3) / len(cluster.kind)
    by_kind = [float(cluster.sizes.containers[cluster.kind == kind].mean()) for kind in range(3)]
    top = np.sort(cluster.popularity)[::-1][: max(1, len(cluster.popularity) // 100)].sum()
    lines = [
        ("hosts: mean CPU utilisation", f"{known.mean:.2f} (v2018)", f"{cpu.mean():.2f}"),
        ("deviation of the hosts' means", f"{known.deviation_between:.3f} (v2018)", f"{cpu.mean(axis=0).std():.3f}"),
        ("deviation within a host", f"{known.deviation_within:.3f} (v2018)", f"{np.median(busy.std(axis=0)):.3f}"),
        ("deviation within an hour", f"{known.deviation_within_hour:.3f} (v2018)", f"{np.median(hours):.3f}"),
        ("changes of more than 0.3 a minute", f"{known.large_changes:.2%} (v2018)", f"{frequent:.2%}"),
        ("range over 500 hosts and an hour", "10-80 % (Fig. 1)", f"{low:.0%} to {high:.0%} (1st, 99th percentile)"),
        ("between hosts at a time", "up to 5.2 times (Imbres section 1)", f"{np.median(at_once):.1f} (95th / 5th)"),
        (
            "within a host over an hour",
            "up to 3.8 times (Imbres section 1)",
            f"{np.median(in_time):.1f} (95th / 5th, median)",
        ),
        (
            "latency follows imbalance strongly",
            "about 50 % of microservices (Fig. 2)",
            f"{strong:.0%} (above {STRONG})",
        ),
        ("entries, leaves, others", "13, 39, 48 % (arXiv 2504.13141)", ", ".join(f"{kind:.0%}" for kind in kinds)),
        ("their mean containers, as ratios", "16 : 17 : 41 (same)", " : ".join(f"{each:.0f}" for each in by_kind)),
        ("requests of the top 1 % of services", "69 % (v2022 sample)", f"{top:.0%}"),
        ("callers of a microservice", "not published", f"mean {callers.mean():.2f}, largest {callers.max()}"),
    ]
    return table(("statistic", "published", "generated"), lines)


def main() -> None:
    """Measure, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "alibaba-statistics.png")
    options = parser.parse_args()
    results = measure(Settings())
    draw(results, options.out)
    print(comparison(results))


if __name__ == "__main__":
    main()
