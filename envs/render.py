"""Rendering, chosen by the render mode; pictures load matplotlib only when the first one is drawn."""

from __future__ import annotations

from typing import Any, NamedTuple

from envs.metrics import class_p95_ms
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo, Telemetry

RENDER_MODES = ("ansi", "human", "rgb_array")


class Moment(NamedTuple):
    """What the curves of a picture need of one control interval."""

    time_s: float
    p95_ms: float
    """Of the worst request class; a failed request is as slow as can be."""
    containers: int
    """That exist, pending ones included."""
    workload_rps: float


class Renderer:
    """Keeps the course of an episode and draws the cluster in one render mode.

    Args:
        mode: one of `RENDER_MODES`, or None for an environment that is never rendered.
    """

    def __init__(self, mode: str | None) -> None:
        self._mode = mode
        self._history: list[Moment] = []
        self._window: Any = None

    def reset(self) -> None:
        """Forget the last episode."""
        self._history = []

    def record(self, telemetry: Telemetry) -> None:
        """Note one control interval, if this mode draws curves."""
        if self._mode in {"human", "rgb_array"}:
            containers = int(telemetry.ready.sum() + telemetry.pending.sum())
            p95_ms = float(class_p95_ms(telemetry).max())
            self._history.append(Moment(telemetry.time_s, p95_ms, containers, float(telemetry.workload_rps.sum())))

    def render(self, telemetry: Telemetry, info: ClusterInfo, observation: Observation) -> Any:
        """Text, an image (700, 1000, 3) uint8, or None after the window was brought up to date.

        Raises:
            RuntimeError: a window is wanted and there is no display.
        """
        if self._mode == "ansi":
            from envs.render_text import render_text

            return render_text(telemetry, info, observation)
        from envs.render_figure import Window, draw

        if self._mode == "rgb_array":
            return draw(telemetry, info, self._history)
        if self._window is None:
            self._window = Window()
        self._window.show(telemetry, info, self._history)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def __getstate__(self) -> dict[str, Any]:
        # A window belongs to its process.
        return {**self.__dict__, "_window": None}
