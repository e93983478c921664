"""What all figures share: colours, lines and a canvas.

The colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AGENT_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D1F", "#444444")
LOAD, CAPACITY, VIOLATION, INK, FAINT = "#0072B2", "#009E73", "#D55E00", "#333333", "#999999"
_LINES = ("-", "--", "-.", ":")

STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": "#777777",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def new_figure(width: float, height: float) -> Figure:
    """A figure that belongs to no window and no global state; width and height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def colour(index: int) -> str:
    """Of the agent that is the `index`-th of a comparison; nine agents need a line style or a label as well."""
    return _AGENT_COLOURS[index % len(_AGENT_COLOURS)]


def line_style(index: int) -> str:
    """A line style that the agent of the same colour does not have."""
    return _LINES[(index + index // len(_AGENT_COLOURS)) % len(_LINES)]
