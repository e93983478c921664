"""Grouped bar charts over applications and scenarios, as in Fig. 6 and 7 of the paper (Imbres, ASPLOS'25)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imbres_gym.evaluation.report import Row
from imbres_gym.evaluation.statistics import Estimate
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.evaluation.style import INK, STYLE, colour, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_AXES = {
    "containers": ("containers (time average)", 1.0),
    "sla_violation": ("60 s windows with p95 above the SLA [%]", 100.0),
    "request_violation": ("requests slower than the SLA or failed [%]", 100.0),
}
"""Metric -> label of the vertical axis and scale."""


def bar_panels(rows: Sequence[Row], metric: str, path: Path) -> None:
    """Draw one panel per application and write it as PNG.

    A panel has a group of bars per scenario of the application, the bars are the agents, everything in the order of the
    rows; error bars are the rows' 95 % intervals (Student t over seeds). A bar that is missing is marked by a cross.

    Args:
        rows: of `imbres_gym.evaluation.report.summarise`; "social-network/high-strict" is the scenario "high, strict"
            of the application "social-network", and a name without "/" is both.
        metric: "containers", "sla_violation" or "request_violation".
        path: of the file; an earlier one is replaced.

    Raises:
        ValueError: no rows, or another metric.
    """
    import io

    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        buffer = io.BytesIO()
        draw_bar_panels(rows, metric).savefig(buffer, format="png", dpi=150)
    write_atomically(path, buffer.getvalue())


def draw_bar_panels(rows: Sequence[Row], metric: str) -> Figure:
    """The figure of `bar_panels`."""
    if not rows:
        raise ValueError("bars need at least one row of a summary")
    if metric not in _AXES:
        raise ValueError(f"no bars of {metric!r}; choose one of {', '.join(_AXES)}")
    from matplotlib.patches import Patch

    agents = list(dict.fromkeys(row.agent for row in rows))
    applications = list(dict.fromkeys(_split(row.scenario)[0] for row in rows))
    columns = min(2, len(applications))
    lines = -(-len(applications) // columns)
    figure = new_figure(5.5 * columns, 0.6 + 2.9 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, application in zip(axes, applications, strict=False):
        _draw_panel(axis, [row for row in rows if _split(row.scenario)[0] == application], agents, metric)
        axis.set_title(application.replace("-", " ").title())
    for axis in axes[len(applications) :]:
        axis.set_visible(False)
    handles = [Patch(color=colour(index)) for index in range(len(agents))]
    figure.legend(handles, agents, loc="outside upper center", ncols=min(len(agents), 8))
    return figure


def _draw_panel(axis: Axes, rows: list[Row], agents: list[str], metric: str) -> None:
    label, scale = _AXES[metric]
    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    found: dict[tuple[str, str], Estimate] = {(row.scenario, row.agent): row.metrics[metric] for row in rows}
    width = 0.82 / len(agents)
    groups = np.arange(len(scenarios))
    for index, agent in enumerate(agents):
        places = groups + (index - (len(agents) - 1) / 2.0) * width
        for place, scenario in zip(places, scenarios, strict=True):
            estimate = found.get((scenario, agent))
            if estimate is None:
                axis.text(place, 0.02, "x", transform=axis.get_xaxis_transform(), ha="center", color=colour(index))
                continue
            mean, low, high = (scale * value for value in (estimate.mean, estimate.low, estimate.high))
            axis.bar(place, mean, 0.94 * width, color=colour(index))
            error = [[mean - low], [high - mean]]
            axis.errorbar(place, mean, yerr=error, fmt="none", ecolor=INK, lw=1.0, capsize=2.0)
    highest = max(scale * estimate.high for estimate in found.values())
    # Without any violation an axis of a few per cent says so better than an empty scale would.
    axis.set_ylim(0.0, 1.08 * highest if highest > 0.0 else 5.0)
    axis.set_ylabel(label)
    axis.set_xticks(groups, [_split(scenario)[1] for scenario in scenarios])
    axis.grid(visible=False, axis="x")


def _split(scenario: str) -> tuple[str, str]:
    """Application and the rest of a scenario's name: ("social-network", "high, strict")."""
    application, _, rest = scenario.partition("/")
    return application, (rest or application).replace("-", ", ")
