"""How the fluid engine is compiled: numba with its cache, stamped with all sources that end up in a kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

from imbres_gym.jit import stamped
from imbres_gym.sim.compiled import OPTIONS

HERE = Path(__file__).parent
MODULES = (
    "bundle",
    "burst",
    "compose",
    "draw",
    "end_to_end",
    "fleet",
    "flow",
    "histogram",
    "interval",
    "levels",
    "own",
    "station",
    "step",
    "surfaces",
    "traces",
    "weather",
)
SOURCES = (
    *(HERE / f"{name}.py" for name in MODULES),
    HERE.parent / "compiled.py",
    HERE.parent / "containers.py",
    HERE.parent / "random.py",
    HERE.parent / "state.py",
    HERE.parents[1] / "measured.py",
    HERE.parents[1] / "percentiles.py",
    HERE.parents[1] / "telemetry.py",
)


def kernel(function: Callable[..., Any]) -> Any:
    """A compiled function that Python calls; it allocates nothing, so that references need not be counted."""
    return stamped(njit(cache=True, **OPTIONS)(function), SOURCES)


def allocating(function: Callable[..., Any]) -> Any:
    """A compiled function that Python calls and that makes arrays."""
    return stamped(njit(cache=True, error_model="numpy")(function), SOURCES)
