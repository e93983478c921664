"""`imbres-gym run`: watch one agent in one scenario."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.errors import clear_errors, duration_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

    from imbres_gym.evaluation.recorder import Interval
    from imbres_gym.evaluation.task import EpisodeTask

_BLOCKS = "▁▂▃▄▅▆▇█"
_HISTORY = 48
"""Intervals in a curve: as many as fit a terminal of 80 columns."""


def run(
    agent: Annotated[str, typer.Argument(help="Name or YAML file of an agent.")],
    scenario: Annotated[str, typer.Argument(help="Name or YAML file of a scenario.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Seed.  [default: the first of `compare`]")] = None,
    duration: Annotated[
        str | None, typer.Option(help="Length of the episode, such as 90s, 30m or 1h.  [default: the scenario's]")
    ] = None,
    warmup: Annotated[
        str | None,
        typer.Option(help="Start that the metrics leave out.  [default: 5m, at most a quarter of the episode]"),
    ] = None,
    engine: Annotated[str, typer.Option(help="Engine of the simulated cluster.")] = "events",
    out: Annotated[Path, typer.Option(help="Folder for the episode and its TensorBoard log.")] = Path("runs/run"),
) -> None:
    """Run one agent in one scenario and show what happens, control interval by control interval."""
    with clear_errors("The unfinished episode is not kept; run the same command to start it again."):
        from imbres_gym.evaluation.executor import use_one_thread

        use_one_thread()
        from dataclasses import replace

        from imbres_gym.evaluation.comparison import prepare_folder
        from imbres_gym.evaluation.task import plan_tasks

        (task,) = plan_tasks(
            [scenario],
            [agent],
            1,
            duration_s=duration_seconds(duration, "--duration"),
            warmup_s=duration_seconds(warmup, "--warmup", may_be_zero=True),
            engine=engine,
        )
        prepare_folder(out, resume=True)
        _play(task if seed is None else replace(task, seed=seed), out)


def _play(task: EpisodeTask, out: Path) -> None:
    from rich.console import Console
    from rich.live import Live

    from imbres_gym.cli.notes import first_use_note
    from imbres_gym.evaluation.episode import run_episode
    from imbres_gym.evaluation.report import rich_tables, summarise
    from imbres_gym.evaluation.storage import episode_path, save_episode
    from imbres_gym.evaluation.tensorboard import write_logs

    console = Console(highlight=False)
    dashboard = Dashboard(task)
    if note := first_use_note():
        console.print(note)
    try:
        with Live(console=console, refresh_per_second=8, get_renderable=dashboard.render):
            result = run_episode(task, dashboard.update)
    finally:
        if not console.is_terminal:
            console.line()  # elsewhere the live table does not end its last line
    path = episode_path(out, task)
    save_episode(result, path)
    write_logs([result], out / "tensorboard")
    console.print(*rich_tables(summarise([result])))
    console.print(f"After a warm-up of {task.warmup_s:g} s; ran in {result.wall_s:.1f} s.\n")
    illegal = int(result.series["illegal_actions"].sum())
    if illegal:
        console.print(f"[yellow]{illegal} parts of its actions were illegal,[/yellow] and repaired or ignored.\n")
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
        self._latest = interval
        self._p95_ms.append(float(class_percentiles(telemetry, 95).max()))
        self._containers.append(float(interval.containers))
        self._workload_rps.append(float(telemetry.workload_rps.sum()))
        self._slow += int(telemetry.slow.sum())
        self._requests += int(telemetry.requests.sum())

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
