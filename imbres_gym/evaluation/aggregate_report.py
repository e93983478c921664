"""The aggregate over scenarios as the terminal, Markdown and `summary.json` show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from imbres_gym.evaluation import markdown
from imbres_gym.evaluation.aggregate import AggregateRow, AggregateTable
from imbres_gym.evaluation.statistics import Aggregate

if TYPE_CHECKING:
    from rich.table import Table

Value = Callable[[AggregateRow], Aggregate | None]

INTERVAL = "95 % stratified bootstrap over seeds within scenarios; too narrow with few seeds"


def _columns(table: AggregateTable) -> list[tuple[str, Value, float, int]]:
    """Heading, value, scale and digits of each column."""
    columns: list[tuple[str, Value, float, int]] = [
        (f"containers / {table.reference}", lambda row: row.containers_to_reference, 1.0, 2),
        ("containers / oracle", lambda row: row.containers_to_oracle, 1.0, 2),
        ("windows > SLA, %", lambda row: row.sla_violation, 100.0, 1),
        ("requests > SLA, %", lambda row: row.request_violation, 100.0, 2),
        (f"P(fewer containers than {table.reference})", lambda row: row.fewer_containers, 1.0, 2),
        (f"P(fewer violations than {table.reference})", lambda row: row.fewer_violations, 1.0, 2),
    ]
    judged = any(row.containers_to_oracle is not None for row in table.rows)
    return columns if judged else [columns[0], *columns[2:]]


def rich_aggregate(table: AggregateTable) -> Table:
    """The aggregate for the terminal; the intervals stand below the values."""
    from rich import box
    from rich.table import Table

    title = f"[bold]{len(table.scenarios)} scenarios together[/bold]  against {table.reference}"
    shown = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    shown.title_style = ""
    shown.add_column("agent", style="bold", overflow="fold")
    columns = _columns(table)
    for heading, *_ in columns:
        shown.add_column(heading, justify="right", overflow="fold")
    shown.add_column("episodes", justify="right")
    for row in table.rows:
        cells = []
        for _, value, scale, digits in columns:
            point, interval = _text(value(row), scale, digits)
            cells.append(point + (f"\n[dim]{interval}[/dim]" if interval else ""))
        missing = f"\n[yellow]{row.missing} missing[/yellow]" if row.missing else ""
        shown.add_row(row.agent, *cells, f"{row.episodes}{missing}")
    return shown


def markdown_aggregate(table: AggregateTable) -> str:
    """The aggregate as a Markdown table with lines on how to read it."""
    columns = _columns(table)
    lines = [
        markdown.row(["agent", *(heading for heading, *_ in columns), "episodes"]),
        markdown.row(["---", *["---:"] * (len(columns) + 1)]),
    ]
    for row in table.rows:
        cells = []
        for _, value, scale, digits in columns:
            point, interval = _text(value(row), scale, digits)
            cells.append(f"{point} ({interval})" if interval else point)
        episodes = f"{row.episodes} ({row.missing} missing)" if row.missing else str(row.episodes)
        lines.append(markdown.row([row.agent, *cells, episodes]))
    note = (
        f"{len(table.scenarios)} scenarios together. Containers relative to another agent's: inter-quartile mean over "
        "the episodes that both have of a scenario and seed. Violations: means. P: probability that a run is better "
        "than a run of the other agent in the same scenario, ties counted half. In parentheses the 95 % "
        "stratified-bootstrap interval (Agarwal et al., 2021), which is too narrow with few seeds: of five, 95 % means "
        "about 92 %. Missing: episodes that another agent has finished and this one has not."
    )
    return "\n".join([*lines, "", note, ""])


def aggregate_data(table: AggregateTable) -> dict[str, Any]:
    """The aggregate for `summary.json`; see `imbres_gym.evaluation.report.write_summary`."""
    return {
        "reference": table.reference,
        "scenarios": list(table.scenarios),
        "interval": INTERVAL,
        "agents": [asdict(row) for row in table.rows],
    }


def _text(value: Aggregate | None, scale: float, digits: int) -> tuple[str, str]:
    """Value and interval, which is empty where there is none."""
    if value is None:
        return "-", ""
    point, low, high = (f"{number * scale:.{digits}f}" for number in (value.value, value.low, value.high))
    return point, f"{low}-{high}" if value.low != value.high else ""
