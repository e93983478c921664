"""Makes `small_runs` importable, and lets torch and stable-baselines3 warn at their import as they like."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import stable_baselines3  # noqa: F401
