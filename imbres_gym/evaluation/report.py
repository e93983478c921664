"""The summary of a comparison: as data (`summary.json`), on the terminal and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbres_gym import __version__
from imbres_gym.evaluation import markdown
from imbres_gym.evaluation.aggregate import ORACLE, AggregateTable
from imbres_gym.evaluation.aggregate_report import aggregate_data
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.metrics import METRICS
from imbres_gym.evaluation.runner import EpisodeFailure
from imbres_gym.evaluation.statistics import Estimate, mean_interval
from imbres_gym.evaluation.storage import write_atomically

if TYPE_CHECKING:
    from rich.table import Table

_SHARES = ("sla_violation", "request_violation")


@dataclass(frozen=True)
class Row:
    """One agent in one scenario.

    Attributes:
        scenario, agent: names.
        sla_ms: target of the p95.
        seeds: of the episodes that it is the mean of.
        metrics: settled metrics, name -> mean and interval over the seeds.
        containers_to_oracle: containers over those of the oracle with the same seed [-]; None without an oracle.
    """

    scenario: str
    agent: str
    sla_ms: float
    seeds: tuple[int, ...]
    metrics: dict[str, Estimate]
    containers_to_oracle: Estimate | None = None


def summarise(results: Sequence[EpisodeResult]) -> list[Row]:
    """One row per scenario and agent, in the order of their first episodes."""
    groups: dict[tuple[str, str], list[EpisodeResult]] = {}
    for result in results:
        groups.setdefault((result.scenario, result.agent), []).append(result)
    return [
        Row(
            scenario,
            agent,
            episodes[0].sla_ms,
            tuple(episode.seed for episode in episodes),
            {name: _estimate(name, episodes) for name in METRICS},
            _to_oracle(episodes, groups.get((scenario, ORACLE), [])),
        )
        for (scenario, agent), episodes in groups.items()
    ]


def _estimate(name: str, episodes: list[EpisodeResult]) -> Estimate:
    bounds = (0.0, 1.0) if name in _SHARES else (0.0, float("inf"))
    return mean_interval([episode.metrics["settled"][name] for episode in episodes], bounds)


def _to_oracle(episodes: list[EpisodeResult], oracle: list[EpisodeResult]) -> Estimate | None:
    limits = {episode.seed: episode.metrics["settled"]["containers"] for episode in oracle}
    common = [episode for episode in episodes if episode.seed in limits]
    ratios = [episode.metrics["settled"]["containers"] / limits[episode.seed] for episode in common]
    return mean_interval(ratios) if ratios else None


def write_summary(
    path: Path,
    rows: Sequence[Row],
    results: Sequence[EpisodeResult],
    failures: Sequence[EpisodeFailure],
    aggregated: AggregateTable | None,
) -> None:
    """Write `summary.json`, an object with these keys.

    - `version` of this package; `seeds`, `duration_s`, `warmup_s`: lists of those that occur;
    - `interval`: what the intervals of the `results` are;
    - `results`: one object per scenario and agent: `scenario`, `agent`, `seeds` (of the finished episodes), `metrics`
      (each of `METRICS` -> {`mean`, `low`, `high`}), `containers_to_oracle` ({`mean`, `low`, `high`}, or null without
      an agent called "oracle");
    - `aggregate`: null for a single scenario, else an object: `reference`, `scenarios`, `interval`, and `agents`, one
      object per agent with the fields of `imbres_gym.evaluation.aggregate.AggregateRow`, intervals as {`value`, `low`,
      `high`};
    - `failures`: one object per episode that could not be finished: `episode`, `message`.
    """
    data: dict[str, Any] = {
        "version": __version__,
        "seeds": sorted({result.seed for result in results}),
        "duration_s": sorted({result.duration_s for result in results}),
        "warmup_s": sorted({result.warmup_s for result in results}),
        "interval": "95 % Student t over seeds; with one seed low = mean = high",
        "results": [
            {
                "scenario": row.scenario,
                "agent": row.agent,
                "seeds": list(row.seeds),
                "metrics": {name: asdict(estimate) for name, estimate in row.metrics.items()},
                "containers_to_oracle": None if row.containers_to_oracle is None else asdict(row.containers_to_oracle),
            }
            for row in rows
        ],
        "aggregate": None if aggregated is None else aggregate_data(aggregated),
        "failures": [{"episode": failure.title, "message": failure.message} for failure in failures],
    }
    write_atomically(path, (json.dumps(data, indent=2) + "\n").encode())


_COLUMNS = {
    "containers": "containers",
    "sla_violation": "windows > SLA, %",
    "request_violation": "requests > SLA, %",
    "p50_ms": "p50, ms",
    "p95_ms": "p95, ms",
    "p99_ms": "p99, ms",
    "connections": "connections",
    "decision_ms": "decision, ms",
}
_NARROW_COLUMNS = {
    "containers": "con-\ntainers",
    "sla_violation": "windows\n> SLA %",
    "request_violation": "requests\n> SLA %",
    "p50_ms": "p50\nms",
    "p95_ms": "p95\nms",
    "p99_ms": "p99\nms",
    "connections": "connec-\ntions",
    "decision_ms": "decision\nms",
}


def format_mean(name: str, estimate: Estimate) -> str:
    """A mean in the unit of the table: "92.1" containers, "4.0" per cent of the windows."""
    return f"{estimate.mean * _scale(name):,.{_digits(name, estimate)}f}"


def format_spread(name: str, estimate: Estimate) -> str:
    """Half the width of an interval (its longer side, if it was cut off): "± 3.0"; empty if there is none."""
    if estimate.low == estimate.high:
        return ""
    half = max(estimate.high - estimate.mean, estimate.mean - estimate.low) * _scale(name)
    return f"± {half:,.{_digits(name, estimate)}f}"


def _scale(name: str) -> float:
    return 100.0 if name in _SHARES else 1.0


def _digits(name: str, estimate: Estimate) -> int:
    value = estimate.mean * _scale(name)
    if name == "containers" or name in _SHARES:
        return 1
    return 0 if value >= 100.0 else 1 if value >= 1.0 else 2


def rich_tables(rows: Sequence[Row]) -> list[Table]:
    """The summary for the terminal, one table per scenario; the intervals stand below the means."""
    from rich import box
    from rich.table import Table

    tables: dict[str, Table] = {}
    judged = any(row.containers_to_oracle is not None for row in rows)
    wanted = len({seed for row in rows for seed in row.seeds})
    for row in rows:
        if row.scenario not in tables:
            title = f"[bold]{row.scenario}[/bold]  SLA: p95 of every request class <= {row.sla_ms:g} ms"
            table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
            table.title_style = ""
            # Where the terminal is narrow, names are broken: a broken number would be another number.
            table.add_column("agent", style="bold", overflow="fold")
            for heading in _NARROW_COLUMNS.values():
                table.add_column(heading, justify="right", no_wrap=True)
            if judged:
                table.add_column("con-\ntainers\n/ oracle", justify="right", no_wrap=True)
            tables[row.scenario] = table
        cells = []
        for name in _COLUMNS:
            spread = format_spread(name, row.metrics[name])
            cells.append(format_mean(name, row.metrics[name]) + (f"\n[dim]{spread}[/dim]" if spread else ""))
        if judged:
            cells.append(_ratio_text(row.containers_to_oracle, "\n"))
        missing = f"\n[yellow]{len(row.seeds)} of {wanted} seeds[/yellow]" if len(row.seeds) < wanted else ""
        tables[row.scenario].add_row(row.agent + missing, *cells)
    return list(tables.values())


def markdown_table(rows: Sequence[Row]) -> str:
    """The summary as a Markdown table with a line on how to read it."""
    judged = any(row.containers_to_oracle is not None for row in rows)
    wanted = len({seed for row in rows for seed in row.seeds})
    ratio = ["containers / oracle"] if judged else []
    header = ["scenario", "SLA ms", "agent", *_COLUMNS.values(), *ratio, "seeds"]
    lines = [markdown.row(header), markdown.row(["---", "---:", "---", *["---:"] * (len(header) - 3)])]
    for row in rows:
        values = [f"{format_mean(n, row.metrics[n])} {format_spread(n, row.metrics[n])}".strip() for n in _COLUMNS]
        if judged:
            values.append(_ratio_text(row.containers_to_oracle, " "))
        seeds = str(len(row.seeds)) + (f" of {wanted}" if len(row.seeds) < wanted else "")
        lines.append(markdown.row([row.scenario, f"{row.sla_ms:g}", row.agent, *values, seeds]))
    note = (
        "Mean over seeds of the settled part of each episode, ± half of the 95 % Student t-interval (the longer side "
        "where it is cut off at the smallest or largest possible value). Windows > SLA: share of 60 s windows whose "
        "p95 is above the SLA for any request class (of 20 requests or more); requests > SLA: share of requests slower "
        "than the SLA or failed. "
        "Decision ms depends on the machine."
    )
    return "\n".join([*lines, "", note, ""])


def _ratio_text(ratio: Estimate | None, between: str) -> str:
    """Containers over the oracle's: "1.31 ± 0.04"."""
    if ratio is None:
        return "-"
    half = max(ratio.high - ratio.mean, ratio.mean - ratio.low)
    return f"{ratio.mean:.2f}" + (f"{between}± {half:.2f}" if half else "")
