"""How the event loop is compiled: two decorators around numba's `njit`.

Nothing in the loop allocates, so references need not be counted (`_nrt=False`): counting those of every array at every
call costs twice the rest of the work. Inlining by LLVM avoids passing the tuples of arrays by value (together 4 times
as fast as plain `njit`). Divisions follow NumPy, without a check for zero.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

from imbres_gym.jit import stamped

Decorator = Callable[[Callable[..., Any]], Any]

SOURCES = (
    "balancers",
    "balancing",
    "compiled",
    "container",
    "kernel",
    "messages",
    "prequal",
    "program",
    "random",
    "spans",
    "state",
    "tournament",
)
"""Modules whose code or constants end up in the event loop."""

OPTIONS: dict[str, Any] = {"_nrt": False, "error_model": "numpy"}

inlined: Decorator = njit(forceinline=True, **OPTIONS)
"""A function that only compiled code calls."""

fused: Decorator = njit(forceinline=True, fastmath={"contract"}, **OPTIONS)
"""Likewise, of a recurrence: each product and the sum after it are one instruction where the CPU has it."""

shared: Decorator = njit(fastmath={"contract"}, **OPTIONS)
"""Likewise, but too large to be copied to each place that calls it."""


def entry(function: Callable[..., Any]) -> Any:
    """A function that Python calls; its machine code is cached on disk.

    It is compiled anew if one of the `SOURCES` has changed, from which functions are inlined.
    """
    return stamped(njit(cache=True, **OPTIONS)(function), [Path(__file__).parent / f"{name}.py" for name in SOURCES])
