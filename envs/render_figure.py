"""The cluster as a picture: where the load and the latency are, and how the episode went against the SLA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from envs.metrics import class_p95_ms
from envs.render import Moment
from imbres_gym.telemetry import ClusterInfo, Telemetry

SIZE_INCHES, DPI = (10.0, 7.0), 100
RESOURCES = ("CPU", "mem. bw.", "network", "LLC")
BLUE, VERMILION, ORANGE, GREY = "#0072B2", "#D55E00", "#E69F00", "#8A8F98"
"""Okabe and Ito's palette, which colour-blind people can tell apart."""
INK, PAPER, EMPTY = "#22272E", "#FFFFFF", "#F0F1F3"
MOST_NUMBERS = 72
"""A heat map with more cells than this has no numbers in them."""
MOST_NAMES = 28
"""Rows of a heat map that can all have their name beside them."""
STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#C5C9CF",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(telemetry: Telemetry, info: ClusterInfo, history: Sequence[Moment]) -> NDArray[np.uint8]:
    """The picture as an array (700, 1000, 3) uint8."""
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI)
    canvas: Any = FigureCanvasAgg(figure)
    paint(figure, telemetry, info, history)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


class Window:
    """A window on the desktop that shows the picture and is brought up to date at every step.

    Raises:
        RuntimeError: matplotlib finds no desktop to open a window on.
    """

    def __init__(self) -> None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=SIZE_INCHES, dpi=DPI)
        if getattr(figure.canvas, "required_interactive_framework", None) is None:
            plt.close(figure)
            raise RuntimeError(
                f"render_mode 'human' needs a desktop, and matplotlib's backend {plt.get_backend()!r} opens no window; "
                "use render_mode 'rgb_array' or 'ansi', or set a display and install a toolkit such as Tk or Qt"
            )
        self._figure = figure

    def show(self, telemetry: Telemetry, info: ClusterInfo, history: Sequence[Moment]) -> None:
        """Draw the present moment and let the desktop handle its events."""
        self._figure.clear()
        paint(self._figure, telemetry, info, history)
        self._figure.canvas.draw()
        self._figure.show()
        self._figure.canvas.flush_events()

    def close(self) -> None:
        """Close the window."""
        import matplotlib.pyplot as plt

        plt.close(self._figure)


def paint(figure: Figure, telemetry: Telemetry, info: ClusterInfo, history: Sequence[Moment]) -> None:
    """Fill an empty figure: interference, load and latency per host above; latency and containers over time below."""
    with mpl.rc_context(STYLE):
        figure.set_facecolor(PAPER)
        _headline(figure, telemetry, info)
        above = figure.add_gridspec(
            2, 2, height_ratios=(1.0, 2.9), hspace=0.07, wspace=0.09, left=0.16, right=0.975, top=0.87, bottom=0.435
        )
        here = telemetry.ready > 0
        load = np.where(here, telemetry.load_rps, np.nan)
        latency = np.where(here & (telemetry.own_p95_ms > 0.0), telemetry.own_p95_ms, np.nan)
        for column, (values, colours, title) in enumerate(
            ((load, "Blues", "Load [calls/s]"), (latency, "YlOrRd", "Own latency, 95th percentile [ms]"))
        ):
            strip = figure.add_subplot(above[0, column])
            _heat_map(strip, 100.0 * telemetry.interference.T, "Greys", 100.0)
            strip.set_title(title, pad=6)
            strip.set_xticks([])
            _row_names(strip, RESOURCES if column == 0 else ())
            grid = figure.add_subplot(above[1, column])
            _heat_map(grid, values, colours, None)
            _row_names(grid, info.microservices if column == 0 else ())
            _host_names(grid, info.hosts)
        figure.text(0.148, 0.879, "interference [%]", ha="right", va="bottom", fontsize=8, color=GREY)
        below = figure.add_gridspec(1, 2, wspace=0.19, left=0.065, right=0.935, top=0.31, bottom=0.075)
        _latency_curve(figure.add_subplot(below[0, 0]), info, history)
        _container_curve(figure.add_subplot(below[0, 1]), history)


def _headline(figure: Figure, telemetry: Telemetry, info: ClusterInfo) -> None:
    p95_ms = float(class_p95_ms(telemetry).max())
    meets = p95_ms <= info.sla_ms
    pending = int(telemetry.pending.sum())
    figure.text(0.02, 0.955, f"{telemetry.time_s:.0f} s", fontsize=17, fontweight="bold", va="center")
    figure.text(
        0.14,
        0.955,
        f"p95 {p95_ms:.0f} ms {'meets' if meets else 'breaks'} the SLA of {info.sla_ms:g} ms",
        fontsize=12,
        fontweight="bold",
        color=BLUE if meets else VERMILION,
        va="center",
    )
    facts = (
        f"{telemetry.workload_rps.sum():.0f} requests/s",
        f"{telemetry.ready.sum()} containers" + (f" + {pending} pending" if pending else ""),
        f"{telemetry.connections.sum()} connections",
    )
    figure.text(0.975, 0.955, "   |   ".join(facts), fontsize=10, va="center", ha="right")


def _heat_map(axes: Axes, values: NDArray[np.float64], colours: str, most: float | None) -> None:
    """A heat map with its numbers; NaN, where there is nothing, stays grey."""
    colour_map = mpl.colormaps[colours].with_extremes(bad=EMPTY)
    top = most if most is not None else max(float(np.nanmax(values, initial=0.0)), 1e-9)
    axes.imshow(np.ma.masked_invalid(values), cmap=colour_map, vmin=0.0, vmax=1.25 * top, aspect="auto")
    rows, columns = values.shape
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PAPER, linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    if values.size > MOST_NUMBERS:
        return
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        value = float(values[row, column])
        shown = f"{value:.1f}" if most is None and value < 10.0 else f"{value:.0f}"
        colour = PAPER if value > 0.8 * top else INK
        axes.text(column, row, shown, ha="center", va="center", fontsize=7.5 if rows <= 12 else 6.5, color=colour)


def _row_names(axes: Axes, names: Sequence[str]) -> None:
    """Names at the rows; only every second, third ... one where they would touch."""
    if not names:
        axes.set_yticks([])
        return
    every = -(-len(names) // MOST_NAMES)
    axes.set_yticks(range(0, len(names), every), [_short(name, 23) for name in names[::every]])
    axes.tick_params(axis="y", labelsize=8 if len(names) <= 14 else 5.8)


def _host_names(axes: Axes, names: Sequence[str]) -> None:
    every = -(-len(names) // 20)
    crowded = len(names) > 5
    labels = [_short(name, 9) for name in names[::every]]
    axes.set_xticks(
        range(0, len(names), every), labels, rotation=45 if crowded else 0, ha="right" if crowded else "center"
    )
    axes.tick_params(axis="x", labelsize=6.5 if crowded else 8)


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _latency_curve(axes: Axes, info: ClusterInfo, history: Sequence[Moment]) -> None:
    time_s = np.array([moment.time_s for moment in history])
    p95_ms = np.array([moment.p95_ms for moment in history])
    axes.plot(
        time_s, p95_ms, color=BLUE, linewidth=1.6, marker="o" if len(history) < 3 else None, markersize=4, clip_on=False
    )
    axes.axhline(info.sla_ms, color=VERMILION, linewidth=1.2, linestyle=(0, (5, 3)))
    above = p95_ms > info.sla_ms
    axes.fill_between(
        time_s, info.sla_ms, p95_ms, where=above.tolist(), interpolate=True, color=VERMILION, alpha=0.25, lw=0
    )
    axes.annotate(
        "SLA",
        (1.0, info.sla_ms),
        (2, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=VERMILION,
        va="center",
        fontsize=8,
    )
    axes.set_ylim(0.0, 1.15 * max(info.sla_ms, float(p95_ms.max())))
    axes.set_title("E2E latency, 95th percentile [ms]")
    _time_axis(axes, time_s)


def _container_curve(axes: Axes, history: Sequence[Moment]) -> None:
    time_s = np.array([moment.time_s for moment in history])
    containers = np.array([moment.containers for moment in history])
    workload = np.array([moment.workload_rps for moment in history])
    requests = axes.twinx()
    requests.fill_between(time_s, 0.0, workload, color=GREY, alpha=0.22, linewidth=0)
    requests.set_ylim(0.0, 1.6 * max(float(workload.max()), 1e-9))
    requests.set_ylabel("workload [requests/s]", color=GREY)
    requests.tick_params(axis="y", colors=GREY, length=0)
    axes.step(
        time_s,
        containers,
        where="pre",
        color=ORANGE,
        linewidth=2.0,
        marker="o" if len(history) < 3 else None,
        clip_on=False,
    )
    axes.set_ylim(0.0, 1.25 * float(containers.max()))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_zorder(requests.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.set_title("Containers")
    _time_axis(axes, time_s)


def _time_axis(axes: Any, time_s: NDArray[np.float64]) -> None:
    axes.set_xlim(0.0, float(time_s[-1]))
    axes.set_xlabel("time [s]", loc="right", labelpad=1)
    axes.grid(axis="y", color="#E6E8EB", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
