"""A cluster as its environment measures and sees it, whatever the cluster is."""

from __future__ import annotations

from imbres_gym.cluster import Cluster, MeasuresInPlace
from imbres_gym.measured import TIME_S, Measured, read
from imbres_gym.observation import Observation, Observer
from imbres_gym.panel import Panel
from imbres_gym.telemetry import Telemetry


class Meter:
    """Lets time pass on a cluster, and keeps what is measured and seen up to date.

    Args:
        cluster: is measured in place if it can.
        into: arrays of the observation, see `imbres_gym.observation.new_observation`; None makes some.
    """

    def __init__(self, cluster: Cluster, into: Observation | None = None) -> None:
        self._cluster = cluster
        self._observer = Observer(cluster.info, into)
        self._telemetry: Telemetry | None = None

    @property
    def observation(self) -> Observation:
        """The last one; the next interval overwrites it."""
        return self._observer.observation

    @property
    def measured(self) -> Measured:
        """The numbers of the last interval; the next one overwrites them."""
        return self._observer.measured

    @property
    def panel(self) -> Panel:
        """Both, for compiled code."""
        return self._observer.panel

    @property
    def time_s(self) -> float:
        """End of the last interval, since the start of the episode."""
        return float(self.measured.clock[TIME_S])

    @property
    def telemetry(self) -> Telemetry:
        """Of the last interval, to keep."""
        if self._telemetry is None:
            self._telemetry = read(self.measured)
        return self._telemetry

    def reset(self, seed: int) -> None:
        """Start an episode, and measure its first interval."""
        self._observer.reset()
        self._telemetry = self._cluster.reset(seed)
        self._observer.see_telemetry(self._telemetry)

    def advance(self, seconds: float) -> None:
        """Let time pass, and measure."""
        if isinstance(self._cluster, MeasuresInPlace):
            self._telemetry = None
            self._observer.see(self._cluster.advance_in_place(seconds))
        else:
            self._telemetry = self._cluster.advance(seconds)
            self._observer.see_telemetry(self._telemetry)
