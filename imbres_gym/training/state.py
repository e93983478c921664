"""Everything that a training run carries from one segment to the next, and its checkpoint files.

A checkpoint is the SHA-256 of its content in one line, and the content as torch writes tensors. It is read with
`weights_only`, so that loading one runs no code.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imbres_gym.evaluation.storage import write_atomically

KEPT = 3
"""Checkpoints that are kept, so that a damaged one costs a segment and not the run."""


@dataclass(frozen=True)
class Progress:
    """Where a training run stands.

    Attributes:
        segment: segments that are done.
        steps: environment steps in them, over all environments.
        learner: state of the algorithm: tensors, numbers and dictionaries of them; empty before the first segment.
        rows: the learning curve, one row of named numbers per early evaluation, the first before any training.
        best_reward: of the rows; the policy of that row is the exported one.
    """

    segment: int = 0
    steps: int = 0
    learner: dict[str, Any] = field(default_factory=dict)
    rows: tuple[dict[str, float], ...] = ()
    best_reward: float = float("-inf")


class DamagedCheckpoint(ValueError):
    """A checkpoint file does not hold what was written into it."""


def checkpoint_folder(folder: Path) -> Path:
    """Where a training run keeps its checkpoints."""
    return folder / "checkpoints"


def save_checkpoint(progress: Progress, folder: Path) -> Path:
    """Write a checkpoint, whole or not at all, and drop those before the last `KEPT`.

    Raises:
        OSError: it cannot be written; the earlier ones are untouched.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(
        {
            "segment": progress.segment,
            "steps": progress.steps,
            "learner": progress.learner,
            "rows": list(progress.rows),
            "best_reward": progress.best_reward,
        },
        buffer,
    )
    content = buffer.getvalue()
    path = checkpoint_folder(folder) / f"segment-{progress.segment:06d}.pt"
    write_atomically(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink()
    return path


def load_checkpoint(path: Path) -> Progress:
    """Read one checkpoint.

    Raises:
        DamagedCheckpoint: cut off, changed, or of another format.
    """
    import torch

    checksum, _, content = path.read_bytes().partition(b"\n")
    if checksum != hashlib.sha256(content).hexdigest().encode():
        raise DamagedCheckpoint(f"{path}: damaged (its content does not have its checksum)")
    try:
        stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return Progress(**{**stored, "rows": tuple(stored["rows"])})
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise DamagedCheckpoint(f"{path}: of another version ({error})") from error


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint files of a training run, oldest first."""
    return sorted(checkpoint_folder(folder).glob("segment-*.pt"))


def newest_checkpoint(folder: Path) -> tuple[Progress | None, list[str]]:
    """The newest checkpoint that can be read, or None; and why newer ones cannot."""
    damaged: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            return load_checkpoint(path), damaged
        except DamagedCheckpoint as error:
            damaged.append(str(error))
    return None, damaged
