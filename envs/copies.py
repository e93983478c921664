"""Copies of arrays in the memory of earlier copies that nobody holds any more.

New memory of some megabytes comes page by page from the operating system, which takes several times as long as copying.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT = 2
"""Copies that are kept of an array: a loop holds the last observation while it asks for the next one."""

FREE = 3
"""References to an array that only `Copies` holds: its list, the variable that looks at it, and the question itself."""


class Copies:
    """Makes copies of one array; what a copy, or a view of it, is still held for stays as it is.

    Args:
        original: is copied as it is at each call.
    """

    def __init__(self, original: NDArray[Any]) -> None:
        self._original = original
        self._kept: list[NDArray[Any]] = []

    def make(self) -> NDArray[Any]:
        """A copy that is the caller's own; every element is written anew."""
        for kept in self._kept:
            if sys.getrefcount(kept) == FREE:
                np.copyto(kept, self._original)
                return kept.view()  # which refers to it, as all views of the caller's will
        fresh = self._original.copy()
        self._kept = [*self._kept, fresh][-KEPT:]
        return fresh.view()
