"""Time that passes when somebody sleeps."""

from __future__ import annotations


class Clock:
    """A monotonic clock that starts at 0 [s]."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
