"""What a person should know before waiting."""

from __future__ import annotations

import os
from pathlib import Path

COMPILING = "[dim]The engine is compiled first, this once: a minute or two.[/dim]"


def first_use_note() -> str | None:
    """`COMPILING` if numba has no compiled engine in its cache yet, else None."""
    import imbres_gym.sim

    elsewhere = os.environ.get("NUMBA_CACHE_DIR")
    cache = Path(elsewhere) if elsewhere else Path(imbres_gym.sim.__file__).parent / "__pycache__"
    return None if any(cache.glob("**/kernel.run-*.nbi")) else COMPILING
