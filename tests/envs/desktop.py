"""A matplotlib backend that says it is a desktop, so that the window can be tested without one."""

from __future__ import annotations

from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

shown: list[int] = []


class DesktopManager(FigureManagerBase):
    def show(self) -> None:
        shown.append(self.num)


class FigureCanvas(FigureCanvasAgg):
    # The one framework that matplotlib accepts on a machine without a display.
    required_interactive_framework = "headless"
    manager_class = DesktopManager


FigureManager = DesktopManager
