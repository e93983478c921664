"""How the event loop is compiled: two decorators around numba's `njit`.

Nothing in the loop allocates, so references need not be counted (`_nrt=False`): counting those of every array at every
call costs twice the rest of the work. Inlining by LLVM avoids passing the tuples of arrays by value (together 4 times
as fast as plain `njit`). Numba's cache does not see changes of inlined functions in other files: after editing
`random.py` or `state.py`, delete `__pycache__`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

Decorator = Callable[[Callable[..., Any]], Any]

entry: Decorator = njit(cache=True, _nrt=False)  # type: ignore[call-overload]
"""A function that Python calls."""

inlined: Decorator = njit(cache=True, _nrt=False, forceinline=True)  # type: ignore[call-overload]
"""A function that only compiled code calls."""
