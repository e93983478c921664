"""How SIGINT and SIGTERM end a live run."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """While it is entered, the first signal raises `KeyboardInterrupt`, and later ones do not disturb the way out.

    Only a main thread gets signals; in another thread this does nothing.
    """

    def __init__(self) -> None:
        self._wanted = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore_signals(self) -> None:
        """From now on a signal does nothing: the run is ending anyway."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        """Raise what a signal raised, if that was lost: in a callback from C, as compilers make them, nobody sees it.

        Raises:
            KeyboardInterrupt: there was a signal.
        """
        if self._wanted:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._wanted = True
        self.ignore_signals()
        raise KeyboardInterrupt
