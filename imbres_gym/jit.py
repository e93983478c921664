"""How loops outside the event engine are compiled: one decorator around numba's `njit`.

The machine code is cached on disk. Numba's cache only looks at the file of the function itself, so a function decorated
here may call compiled functions of its own file only (the event engine, whose loop is spread over files, has
`imbres_gym.sim.compiled`). Divisions follow NumPy, without a check for zero; no fast-math: results are those of NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

compiled: Callable[[Callable[..., Any]], Any] = njit(cache=True, error_model="numpy")
"""A function that is compiled when it is first called, with other compiled functions of its own file."""
