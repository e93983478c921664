"""Performance profiles: which share of an agent's runs is at most so dear, and at most so bad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imbres_gym.evaluation.aggregate import relative_containers, runs_by_agent, violations
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.statistics import Floats, performance_profile
from imbres_gym.evaluation.style import FAINT, INK, colour, line_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 241
"""Thresholds of a curve; the steps of the few runs there are need no more."""


def draw_profiles(results: Sequence[EpisodeResult], reference: str) -> Figure:
    """Profiles of the containers relative to the reference (left) and of the violations (right), all scenarios.

    The higher the curve the better. Bands: pointwise 95 % stratified bootstrap. An episode that an agent has not
    finished is left out; the legend says of how many the curve is made.
    """
    agents = runs_by_agent(results)
    cells = len({cell for runs in agents.values() for cell in runs})
    figure = new_figure(11.0, 4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    ratios = {agent: relative_containers(runs, agents.get(reference, {})) for agent, runs in agents.items()}
    shares = {agent: violations(runs) for agent, runs in agents.items()}
    labels = {
        agent: f"{agent} ({len(runs)} of {cells})" * (len(runs) < cells) or agent for agent, runs in agents.items()
    }
    _draw(left, ratios, labels)
    _draw(right, shares, labels, scale=100.0)
    left.axvline(1.0, color=FAINT, lw=1.0, ls=":")
    left.set_xlabel(f"containers relative to {reference}, at most")
    left.set_ylabel("runs [%]")
    left.set_ylim(0.0, 102.0)
    right.set_xlabel("60 s windows with p95 above the SLA, at most [%]")
    right.legend(loc="lower right")
    scenarios = len({result.scenario for result in results})
    figure.suptitle(f"Performance profiles over {scenarios} scenarios: higher is better", color=INK)
    return figure


def _draw(axis: Axes, scores: dict[str, list[Floats]], labels: dict[str, str], scale: float = 1.0) -> None:
    everything = [values for runs in scores.values() for values in runs]
    if not everything:
        return
    lowest, highest = (float(end(np.concatenate(everything))) for end in (np.min, np.max))
    room = 0.03 * (highest - lowest) or 0.05
    thresholds = np.linspace(max(0.0, lowest - room), highest + room, _POINTS)
    for index, (agent, runs) in enumerate(scores.items()):
        if not runs:
            continue
        profile = performance_profile(runs, thresholds)
        axis.step(
            scale * thresholds,
            100.0 * profile.share,
            where="post",
            color=colour(index),
            ls=line_style(index),
            lw=1.8,
            label=labels[agent],
        )
        band = scale * thresholds, 100.0 * profile.low, 100.0 * profile.high
        axis.fill_between(*band, step="post", color=colour(index), alpha=0.12, lw=0)
    axis.set_xlim(scale * thresholds[0], scale * thresholds[-1])
