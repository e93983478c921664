"""How SIGINT and SIGTERM end a live run."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
AGAIN_S = 1.0
"""Time until a signal that may have been lost is raised again [s]."""


class Stop:
    """While it is entered, the first signal raises `KeyboardInterrupt`, and later ones do not disturb the way out.

    It is raised again every second until somebody says that it has arrived, by `ignore_signals` or by leaving: in a
    callback from C, as a compiler makes them, an exception is lost.

    Only a main thread gets signals; in another thread this does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ignore_signals()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore_signals(self) -> None:
        """From now on a signal does nothing: the run is ending anyway."""
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            _ignore(*SIGNALS)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        _ignore(signal.SIGINT, signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        raise KeyboardInterrupt


def _ignore(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
