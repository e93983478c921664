"""The 95th percentile of each request class over the last scaling interval, without sorting what was there before."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled_with
from imbres_gym.measured import TIME_S, Measured
from imbres_gym.percentiles import percentile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SOURCES = tuple(Path(__file__).with_name(f"{name}.py") for name in ("latency_window", "measured", "percentiles"))
"""Files whose code ends up in what calls `remember` or `percentiles_since`."""


class Window(NamedTuple):
    """Latencies of the last seconds, sorted interval by interval.

    Each interval has a slot for each class; a new interval takes the slot of one that has left the window.

    Attributes:
        length_s: (1,) of the window.
        end_s: (slots,) of the intervals; minus infinity where there is none.
        values: (slots, C, room) [ms].
        listed: (slots, C) latencies.
        requests: (slots, C) that ended, failed ones included.
        failed: (slots, C) of them.
        p95_ms: (C,) of the window, for who fills it; 0 of fewer than `MIN_REQUESTS` requests.
    """

    length_s: Floats
    end_s: Floats
    values: Floats
    listed: Ints
    requests: Floats
    failed: Floats
    p95_ms: Floats


def new_window(n_classes: int, length_s: float, slots: int = 0, room: int = 0) -> Window:
    """An empty window."""
    return Window(
        length_s=np.array([length_s]),
        end_s=np.full(slots, -np.inf),
        values=np.zeros((slots, n_classes, room)),
        listed=np.zeros((slots, n_classes), np.int64),
        requests=np.zeros((slots, n_classes)),
        failed=np.zeros((slots, n_classes)),
        p95_ms=np.zeros(n_classes),
    )


def clear(window: Window) -> None:
    """Forget the past."""
    window.end_s[:] = -np.inf
    for values in (window.listed, window.requests, window.failed):
        values[:] = 0


def grown(window: Window, need: int) -> Window:
    """The same with room for so many latencies of a class and some more, or, if there is, with one slot more."""
    slots, classes, room = window.values.shape
    larger_room = need + need // 4 if need > room else room
    larger = new_window(classes, float(window.length_s[0]), slots + (need <= room), larger_room)
    larger.values[:slots, :, :room] = window.values
    for name in ("end_s", "listed", "requests", "failed"):
        getattr(larger, name)[:slots] = getattr(window, name)
    return larger


@compiled_with(*SOURCES)
def remember(window: Window, measured: Measured) -> bool:
    """One more interval; those that ended `length_s` before it leave the window. False if there is no room for it."""
    slots, classes, room = window.values.shape
    slot = -1
    for other in range(slots - 1, -1, -1):
        if window.end_s[other] <= measured.clock[TIME_S] - window.length_s[0] + 1e-9:
            window.end_s[other] = -np.inf
            window.listed[other, :] = 0
            window.requests[other, :] = 0.0
            window.failed[other, :] = 0.0
            slot = other
    if slot < 0:
        return False
    for c in range(classes):
        if measured.listed[c] > room:
            return False
    window.end_s[slot] = measured.clock[TIME_S]
    for c in range(classes):
        window.listed[slot, c] = measured.listed[c]
        window.requests[slot, c] = measured.requests[c]
        window.failed[slot, c] = measured.failed[c]
        for i in range(measured.listed[c]):
            window.values[slot, c, i] = measured.latencies_ms[c, i]
    return True


@compiled_with(*SOURCES)
def percentiles_since(window: Window, begin_s: float, c: int, quantiles: Floats, out: Floats) -> None:
    """Of the requests of the intervals that ended after a time; a failed one is slower than all.

    A latency that stands for several requests counts as often (see `imbres_gym.percentiles`).

    Args:
        window: the intervals.
        begin_s: when the first of them began.
        c: the class, -1 for all together.
        quantiles: (n,) [0-1].
        out: (n,) is overwritten [ms].
    """
    slots, classes, room = window.values.shape
    first, end = (c, c + 1) if c >= 0 else (0, classes)
    parts, failed = 0, 0.0
    begins, ends = np.zeros(slots * classes, np.int64), np.zeros(slots * classes, np.int64)
    weights = np.ones(slots * classes)
    for slot in range(slots):
        if window.end_s[slot] <= begin_s + 1e-9:
            continue
        for of in range(first, end):
            count = window.listed[slot, of]
            failed += window.failed[slot, of]
            if count > 0:
                begins[parts] = (slot * classes + of) * room
                ends[parts] = begins[parts] + count
                weights[parts] = max(1.0, (window.requests[slot, of] - window.failed[slot, of]) / count)
                parts += 1
    values = window.values.reshape(slots * classes * room)
    for i in range(len(quantiles)):
        out[i] = percentile(values, begins[:parts], ends[:parts], weights[:parts], failed, quantiles[i])
