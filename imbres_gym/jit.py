"""How loops outside the event engine are compiled: decorators around numba's `njit`.

The machine code is cached on disk. Numba's cache only looks at the file of the function itself, so a function that is
`compiled` may call compiled functions of its own file only; `compiled_with` names the other files. Divisions follow
NumPy, without a check for zero; no fast-math: results are those of NumPy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from numba import njit, types

compiled: Callable[[Callable[..., Any]], Any] = njit(cache=True, error_model="numpy")
"""A function that is compiled when it is first called, with other compiled functions of its own file."""


def compiled_with(*files: Path) -> Callable[[Callable[..., Any]], Any]:
    """Like `compiled`, for a function that calls compiled functions of these files, too."""

    def decorate(function: Callable[..., Any]) -> Any:
        return stamped(compiled(function), [Path(function.__code__.co_filename), *files])

    return decorate


def stamped(dispatcher: Any, files: Iterable[Path]) -> Any:
    """A cached dispatcher of numba that is compiled anew if one of the source files has changed since.

    The stamp of numba's cache, which is that of one file, is replaced by one of them all.
    """
    cache_file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if cache_file is not None:  # there is none where numba is switched off or finds no place to write to
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.read_bytes())
        cache_file._source_stamp = digest.hexdigest()
    return dispatcher


class HandleType(types.StructRef):
    """Type of a handle: many arrays as one argument, which numba unpacks when it is made, not at every call."""

    def preprocess_fields(self, fields: Any) -> Any:
        """Fields of any value; numba asks for it."""
        return tuple((name, types.unliteral(kind)) for name, kind in fields)  # type: ignore[no-untyped-call]
