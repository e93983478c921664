"""A cluster as its environment measures and sees it, whatever the cluster is."""

from __future__ import annotations

from imbres_gym.cluster import Cluster, MeasuresInPlace
from imbres_gym.measured import TIME_S, Measured, read
from imbres_gym.observation import Observation, Page, Pages, new_observation
from imbres_gym.observer import Observer
from imbres_gym.panel import Panel
from imbres_gym.telemetry import Telemetry


class Meter:
    """Lets time pass on a cluster, and shows what is measured.

    Args:
        cluster: is measured in place if it can, and traces nothing.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._in_place = cluster if isinstance(cluster, MeasuresInPlace) and not cluster.traces else None
        self._observer = Observer(cluster.info)
        self._telemetry: Telemetry | None = None
        self._pages = Pages(cluster.info)
        self._page = Page(new_observation(cluster.info))
        self._looked = False
        self.time_s = 0.0
        """End of the last interval, since the start of the episode."""

    @property
    def measured(self) -> Measured:
        """The numbers of the last interval; the next one overwrites them."""
        return self._observer.measured

    @property
    def panel(self) -> Panel:
        """What is measured and remembered, for compiled code."""
        return self._observer.panel

    @property
    def telemetry(self) -> Telemetry:
        """Of the last interval, to keep."""
        if self._telemetry is None:
            self._telemetry = read(self.measured)
        return self._telemetry

    def reset(self, seed: int) -> None:
        """Start an episode, and measure its first interval."""
        self._observer.reset()
        self._looked = False
        self._telemetry = self._cluster.reset(seed)
        self._observer.add_telemetry(self._telemetry)
        self.time_s = self._telemetry.time_s

    def advance(self, seconds: float) -> None:
        """Let time pass, and measure."""
        self._looked = False
        if self._in_place is not None:
            self._telemetry = None
            self._observer.add(self._in_place.advance_in_place(seconds))
        else:
            self._telemetry = self._cluster.advance(seconds)
            self._observer.add_telemetry(self._telemetry)
        self.time_s = float(self._observer.measured.clock[TIME_S])

    def show(self, page: Page) -> None:
        """Write the observation into a page."""
        self._observer.show(page)

    def observe(self) -> Observation:
        """The observation, as the caller's own."""
        page, arrays = self._pages.blank()
        self._observer.show(page)
        return arrays

    def look(self) -> Observation:
        """The observation, for callers that read it before the next interval, and only read it."""
        if not self._looked:
            self._observer.show(self._page)
            self._looked = True
        return self._page.arrays
