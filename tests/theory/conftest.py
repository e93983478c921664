"""Makes `theory` and `oracles` importable: Ciw installs a top-level package `tests`, which hides this folder's name."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
