"""The journal of a live run: one JSON object a line for every decision, with its reasons."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import numpy as np


class Journal:
    """Writes lines to any number of text streams, flushed one by one.

    Args:
        streams: where to; the journal does not close them.
    """

    def __init__(self, streams: Sequence[TextIO] = ()) -> None:
        self._streams = list(streams)

    def write(self, kind: str, **fields: Any) -> None:
        """One line: the time (UTC), the kind of event, and its fields.

        Raises:
            BrokenPipeError: nobody reads a stream any more; it is left out from now on, and the others have the line.
        """
        event = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **fields}
        line = json.dumps(event, default=_plain, allow_nan=False) + "\n"
        broken: BrokenPipeError | None = None
        for stream in list(self._streams):
            try:
                stream.write(line)
                stream.flush()
            except BrokenPipeError as error:
                self._streams.remove(stream)
                broken = error
        if broken is not None:
            raise broken


def rounded(value: float, digits: int = 3) -> float | None:
    """A number for the journal; None where it is not finite."""
    return round(float(value), digits) if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be in the journal")
