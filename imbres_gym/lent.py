"""Arrays that are lent to callers, and written into again once nobody holds any of them.

New memory comes page by page from the operating system, which takes several times as long as writing into it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Lent:
    """Some arrays that are lent together.

    Args:
        arrays: this very mapping stays; whatever else will refer to the arrays for good does so already.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        self._roots = [_root(array) for array in arrays.values()]
        self._references = self._count()

    def views(self) -> dict[str, NDArray[Any]]:
        """The arrays for a caller, who may do with them whatever it likes."""
        return {key: array.view() for key, array in self._arrays.items()}

    @property
    def free(self) -> bool:
        """Whether nobody holds any of them, or a part of one."""
        return self._count() == self._references

    def _count(self) -> int:
        return sum(map(sys.getrefcount, self._roots))


def _root(array: NDArray[Any]) -> NDArray[Any]:
    """The array that views of an array refer to."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
