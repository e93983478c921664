"""Whether two episodes are the same, bit by bit."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from imbres_gym.evaluation.episode import EpisodeResult


def same_episode(left: EpisodeResult, right: EpisodeResult) -> bool:
    """All but what depends on the speed of the machine: how long the run and its decisions took."""
    names = [field.name for field in fields(EpisodeResult) if field.name != "wall_s"]
    return all(_equal(getattr(left, name), getattr(right, name)) for name in names)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        timed = {name for name in {*left, *right} if name.startswith("decision_ms")}
        return left.keys() == right.keys() and all(_equal(left[name], right[name]) for name in {*left} - timed)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return bool(left == right) or (left != left and right != right)
