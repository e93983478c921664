"""The 95th percentile of each request class over the last scaling interval, without copying what was there before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled
from imbres_gym.percentiles import copy_sorted, of_columns
from imbres_gym.telemetry import Telemetry

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class LatencyWindow:
    """Latencies of the last `length_s` seconds, kept sorted interval by interval in one array.

    Each interval has a slot for each class; a new interval takes the slots of one that has left the window.
    """

    def __init__(self, n_classes: int, length_s: float) -> None:
        self._classes = n_classes
        self._length_s = length_s
        self._values = np.zeros((0, n_classes, 0))  # (slots, C, room)
        self._count = np.zeros((0, n_classes), np.int64)
        self._requests = np.zeros((0, n_classes))
        self._failed = np.zeros((0, n_classes))  # of them
        self._end_s = np.zeros(0)

    def reset(self) -> None:
        """Forget the past."""
        self._end_s[:] = -np.inf
        self._count[:] = 0
        self._requests[:] = self._failed[:] = 0

    def add(self, telemetry: Telemetry) -> None:
        """One more interval; those that ended `length_s` before it leave the window."""
        need = max([latencies.size for latencies in telemetry.latencies_ms])
        slot = _make_room(self._end_s, self._count, self._requests, self._failed, telemetry.time_s - self._length_s)
        if slot < 0 or need > self._values.shape[2]:
            self._grow(len(self._end_s) + (slot < 0), max(need + need // 4, self._values.shape[2]))
            slot = slot if slot >= 0 else len(self._end_s) - 1
        self._end_s[slot] = telemetry.time_s
        self._requests[slot] = telemetry.requests
        self._failed[slot] = telemetry.failed
        for c, latencies in enumerate(telemetry.latencies_ms):
            self._count[slot, c] = latencies.size
            copy_sorted(latencies, self._values[slot, c, : latencies.size])

    def p95_ms(self) -> Floats:
        """(C,) [ms]; a failed request counts as slower than all, see `imbres_gym.percentiles`."""
        return np.asarray(of_columns(self._values, self._count, self._requests, self._failed, 0.95))

    def _grow(self, slots: int, room: int) -> None:
        before, classes = self._values, self._classes
        self._values = np.zeros((slots, classes, room))
        self._values[: len(before), :, : before.shape[2]] = before
        more = slots - len(before)
        self._count = np.concatenate([self._count, np.zeros((more, classes), np.int64)])
        self._requests = np.concatenate([self._requests, np.zeros((more, classes))])
        self._failed = np.concatenate([self._failed, np.zeros((more, classes))])
        self._end_s = np.concatenate([self._end_s, np.full(more, -np.inf)])


@compiled
def _make_room(end_s: Floats, count: Ints, requests: Floats, failed: Floats, begin_s: float) -> int:
    """Empty the slots of intervals that ended before a time; returns one of them, -1 if there is none."""
    free = -1
    for slot in range(len(end_s) - 1, -1, -1):
        if end_s[slot] <= begin_s + 1e-9:
            count[slot, :] = 0
            requests[slot, :] = 0.0
            failed[slot, :] = 0.0
            free = slot
    return free
