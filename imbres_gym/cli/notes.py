"""What a person should know before waiting."""

from __future__ import annotations

from pathlib import Path

COMPILING = "[dim]The engine is compiled first, this once: about half a minute.[/dim]"


def first_use_note() -> str | None:
    """`COMPILING` if numba has no compiled engine in its cache yet, else None."""
    import imbres_gym.sim

    cache = Path(imbres_gym.sim.__file__).parent / "__pycache__"
    return None if any(cache.glob("kernel.run-*.nbi")) else COMPILING
