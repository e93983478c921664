"""When a scaling policy decides: it is asked every control interval, but acts on its own interval."""

from __future__ import annotations


class IntervalClock:
    """Tells once per interval that its end has come.

    Args:
        interval_s: length of the interval [s], > 0.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._passed = 0

    def due(self, time_s: float) -> bool:
        """Whether an interval ended at or before `time_s` that no earlier call was told of."""
        passed = int(time_s / self._interval_s + 1e-6)
        if passed <= self._passed:
            return False
        self._passed = passed
        return True
