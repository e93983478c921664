"""From the telemetry of successive intervals to what an agent sees of them, see `imbres_gym.observation`."""

from __future__ import annotations

from typing import Any

import numpy as np

from imbres_gym import latency_window
from imbres_gym.critical_path import PathWindow
from imbres_gym.jit import compiled_with
from imbres_gym.latency_window import clear, grown, new_window, percentiles_since, remember
from imbres_gym.measured import CONTAINERS, TIME_S, Measured, new_measured, write
from imbres_gym.observation import Observation, Page, new_observation
from imbres_gym.panel import Panel, panel
from imbres_gym.percentiles import MIN_REQUESTS
from imbres_gym.telemetry import ClusterInfo, Telemetry

P95 = np.array([0.95])


class Observer:
    """Remembers what the next observation needs: the last interval, and the requests of one scaling interval.

    Args:
        info: fixed facts of the episode.
    """

    def __init__(self, info: ClusterInfo) -> None:
        self._info = info
        self._measured = new_measured(info)
        intervals = int(np.ceil(info.scaling_interval_s / info.control_interval_s - 1e-9))
        self._window = new_window(len(info.classes), info.scaling_interval_s, intervals)
        self._paths = PathWindow(len(info.microservices), info.scaling_interval_s)
        self._critical_path = np.zeros((len(info.microservices), 3))
        self._panel: Panel | None = None

    @property
    def measured(self) -> Measured:
        """The numbers of the last interval; the next one overwrites them."""
        return self._measured

    @property
    def panel(self) -> Panel:
        """All that is remembered, for compiled code."""
        if self._panel is None:
            self._panel = panel(self._measured, self._window, self._critical_path)
        return self._panel

    def reset(self) -> None:
        """Forget the past."""
        clear(self._window)
        self._paths.reset()
        self._critical_path[...] = 0.0

    def observe(self, telemetry: Telemetry) -> Observation:
        """The observation after one more interval; its arrays are new and belong to the caller."""
        self.add_telemetry(telemetry)
        page = Page(new_observation(self._info))
        self.show(page)
        return page.arrays

    def add_telemetry(self, telemetry: Telemetry) -> None:
        """One more interval."""
        self._paths.add(telemetry.spans, telemetry.time_s)
        self._critical_path[...] = self._paths.features()
        self.add(write(telemetry, self._measured))

    def add(self, measured: Measured) -> None:
        """One more interval, without traces; keeps `measured` itself."""
        if measured is not self._measured:
            self._measured, self._panel = measured, None
        while not _remember(self.panel):
            self._window, self._panel = grown(self._window, int(measured.listed.max())), None

    def show(self, page: Page) -> None:
        """Write the observation into a page, all of it."""
        _show(self.panel, self._info.sla_ms, page.sheet)

    def __getstate__(self) -> dict[str, Any]:
        """A pickle has the arrays, not the panel of them."""
        return {**self.__dict__, "_panel": None}


@compiled_with(*latency_window.SOURCES)
def _remember(panel):  # type: ignore[no-untyped-def]
    """As `Observer.add`; False, and nothing has happened, if the window has no room."""
    window = panel.window
    if not remember(window, panel.measured):
        return False
    for c in range(len(window.p95_ms)):
        window.p95_ms[c] = 0.0
        if window.requests[:, c].sum() >= MIN_REQUESTS:
            percentiles_since(window, -np.inf, c, P95, window.p95_ms[c : c + 1])
    return True


@compiled_with(*latency_window.SOURCES)
def _show(panel, sla_ms, sheet):  # type: ignore[no-untyped-def]
    measured, seen = panel.measured, sheet.seen
    seen.time_s[0], seen.sla_ms[0] = measured.clock[TIME_S], sla_ms
    m, h = measured.ready.shape
    for i in range(m):
        seen.wanted[i] = measured.wanted[i]
        seen.microservice_p95_ms[i] = measured.microservice_p95_ms[i]
        for j in range(h):
            seen.own_latency_ms[i, j] = measured.own_latency_ms[i, j]
            seen.own_p95_ms[i, j] = measured.own_p95_ms[i, j]
            seen.load_rps[i, j] = measured.load_rps[i, j]
            seen.samples[i, j] = measured.samples[i, j]
            seen.age_s[i, j] = measured.age_s[i, j]
            seen.cpu_utilisation[i, j] = measured.cpu_utilisation[i, j]
            seen.ready[i, j] = measured.ready[i, j]
            seen.pending[i, j] = measured.pending[i, j]
            seen.proportions[i, j] = measured.proportions[i, j]
    seen.interference[:] = measured.interference
    seen.connections[:] = measured.connections
    seen.pair_share[:] = measured.pair_share
    seen.e2e_ms[:] = measured.e2e_ms
    seen.critical_path[:] = panel.critical_path
    for c in range(len(measured.requests)):
        seen.requests[c] = measured.requests[c]
        seen.failed[c] = measured.failed[c]
        seen.workload_rps[c] = measured.workload_rps[c]
        seen.window_p95_ms[c] = panel.window.p95_ms[c]
    # The container table, and its rows of nobody.
    count, rows = measured.counts[CONTAINERS], len(seen.containers)
    table, usage = seen.containers, seen.container_usage
    for row in range(count):
        table[row, 0] = measured.container_id[row]
        table[row, 1] = measured.container_microservice[row]
        table[row, 2] = measured.container_host[row]
        table[row, 3] = measured.container_ready[row]
        usage[row, 0] = measured.container_rps[row]
        usage[row, 1] = measured.container_cpu[row]
        usage[row, 2] = measured.container_age_s[row]
    nobody, unused = table.reshape(4 * rows)[4 * count :], usage.reshape(3 * rows)[3 * count :]
    for i in range(len(nobody)):
        nobody[i] = -1
    for i in range(len(unused)):
        unused[i] = 0.0
