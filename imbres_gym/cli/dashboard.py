"""One episode on the terminal: a live table while it runs, and its metrics at the end."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from imbres_gym.evaluation.episode import EpisodeResult
    from imbres_gym.evaluation.recorder import Interval
    from imbres_gym.evaluation.task import EpisodeTask

_BLOCKS = "▁▂▃▄▅▆▇█"
_HISTORY = 48
"""Intervals in a curve: as many as fit a terminal of 80 columns."""


@contextlib.contextmanager
def live(console: Console, dashboard: Dashboard) -> Iterator[None]:
    """Show the dashboard while an episode runs."""
    from rich.live import Live

    try:
        with Live(console=console, refresh_per_second=8, get_renderable=dashboard.render):
            yield
    finally:
        if not console.is_terminal:
            console.line()  # elsewhere the live table does not end its last line


def keep_and_show(console: Console, task: EpisodeTask, result: EpisodeResult, out: Path) -> None:
    """Keep a finished episode and its TensorBoard log below `out`, print its table and where to look."""
    from imbres_gym.evaluation.recorder import illegal_parts
    from imbres_gym.evaluation.report import rich_tables, summarise
    from imbres_gym.evaluation.storage import episode_path, save_episode
    from imbres_gym.evaluation.tensorboard import write_logs

    path = episode_path(out, task)
    save_episode(result, path)
    write_logs([result], out / "tensorboard")
    console.print(*rich_tables(summarise([result])))
    console.print(f"After a warm-up of {result.warmup_s:g} s; ran in {result.wall_s:.1f} s.\n")
    illegal = illegal_parts(result.series)
    if illegal:
        console.print(
            f"[yellow]{illegal}[/yellow], and repaired or ignored; a part that is missing, misspelt or of the wrong "
            "shape counts once a step.\n"
        )
    console.print(f"  episode      {path}", soft_wrap=True)
    console.print(f"  every curve  tensorboard --logdir {out / 'tensorboard'}", soft_wrap=True)


class Dashboard:
    """A live table of one episode: latency against the SLA, containers, workload, decision time."""

    def __init__(self, task: EpisodeTask) -> None:
        self._task = task
        self._latest: Interval | None = None
        self._p95_ms: deque[float] = deque(maxlen=_HISTORY)
        self._containers: deque[float] = deque(maxlen=_HISTORY)
        self._workload_rps: deque[float] = deque(maxlen=_HISTORY)
        self._slow = 0
        self._requests = 0

    def update(self, interval: Interval) -> None:
        """Take in one control interval."""
        from imbres_gym.evaluation.recorder import class_percentiles

        telemetry = interval.telemetry
        self._p95_ms.append(float(class_percentiles(telemetry, 95).max()))
        self._containers.append(float(interval.containers))
        self._workload_rps.append(float(telemetry.workload_rps.sum()))
        self._slow += int(telemetry.slow.sum())
        self._requests += int(telemetry.requests.sum())
        self._latest = interval  # last: another thread renders what there is once this is set

    def render(self) -> RenderableType:
        """The table as it stands."""
        from rich import box
        from rich.table import Table

        task, latest = self._task, self._latest
        table = Table(box=box.ROUNDED, show_header=False, title=task.title, title_justify="left", min_width=72)
        table.add_column(style="dim", no_wrap=True, min_width=11)
        table.add_column(justify="right", no_wrap=True, min_width=9)
        table.add_column(no_wrap=True)
        if latest is None:
            table.add_row("starting", "", "building the cluster (compiled on first use)")
            return table
        sla, p95 = task.scenario.sla_ms, self._p95_ms[-1]
        colour = "red" if p95 > sla else "green"
        done = min(1.0, latest.telemetry.time_s / task.scenario.duration)
        share = self._slow / self._requests if self._requests else 0.0
        table.add_row("time", f"{latest.telemetry.time_s:.0f} s", f"{_bar(done)} {done:.0%}")
        table.add_row("p95", f"[{colour}]{p95:.0f} ms[/]", f"[{colour}]{sparkline(self._p95_ms, 2 * sla)}[/]")
        table.add_row("SLA", f"{sla:.0f} ms", f"half the height above; {share:.1%} slower or failed")
        table.add_row("containers", f"{latest.containers}", sparkline(self._containers))
        table.add_row("workload", f"{self._workload_rps[-1]:.0f} rps", sparkline(self._workload_rps))
        table.add_row("capacity", f"{latest.capacity_rps:.0f} rps", "estimate, at 50 % CPU of the bottleneck")
        table.add_row("connections", f"{int(latest.telemetry.connections.sum())}", "")
        table.add_row("decision", f"{latest.decision_ms['total']:.1f} ms", _tiers(latest.decision_ms))
        table.add_row("reward", f"{latest.reward:.3f}", _parts(latest.reward_parts))
        return table


def sparkline(values: deque[float], top: float | None = None) -> str:
    """Values as small blocks, from 0 to `top` (the largest value if None)."""
    ceiling = max(values) if top is None else top
    if ceiling <= 0.0:
        return _BLOCKS[0] * len(values)
    last = len(_BLOCKS) - 1
    return "".join(_BLOCKS[min(last, int(value / ceiling * len(_BLOCKS)))] for value in values)


def _bar(share: float, width: int = 40) -> str:
    filled = round(share * width)
    return f"[cyan]{'━' * filled}[/][dim]{'━' * (width - filled)}[/]"


def _tiers(decision_ms: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in decision_ms.items() if name != "total")


def _parts(reward_parts: dict[str, float]) -> str:
    # The latency has a line of its own, and no weight in the environment that agents are evaluated in.
    return ", ".join(f"{name} {value:.3f}" for name, value in reward_parts.items() if name != "latency")
