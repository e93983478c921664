"""Figures of experiments: one look, colours that people with any kind of colour vision tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito (2008)."""
FAINT, ALERT = "#999999", "#D55E00"


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, NDArray[Any]]:
    """A figure without a window, and its (rows, columns) axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#E6E6E6", lw=0.7)
        axis.set_axisbelow(True)
    return figure, axes


def draw_band(axis: Axes, x: Sequence[float], estimates: Sequence[Estimate], colour: str, label: str) -> None:
    """Means as a line, their intervals as a band."""
    axis.plot(x, [e.mean for e in estimates], color=colour, lw=1.7, label=label)
    axis.fill_between(x, [e.low for e in estimates], [e.high for e in estimates], color=colour, alpha=0.2, lw=0)


def draw_points(axis: Axes, x: Sequence[float], estimates: Sequence[Estimate], colour: str, label: str) -> None:
    """Means as connected points, their intervals as bars."""
    means = np.array([e.mean for e in estimates])
    errors = [means - [e.low for e in estimates], [e.high for e in estimates] - means]
    axis.errorbar(x, means, yerr=errors, color=colour, lw=1.5, marker="o", ms=4, capsize=3, label=label)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
