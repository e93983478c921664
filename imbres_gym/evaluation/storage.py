"""One file per episode: a compressed npz archive with a JSON header inside, written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from imbres_gym.config import ConfigError
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.metrics import METRICS
from imbres_gym.evaluation.task import EpisodeTask

_ARRAY_FIELDS = ("series", "windows", "quantiles_ms")


class CannotWrite(OSError):
    """A file could not be written: the disk is full, the folder was made read-only or is gone."""


def require_writable(folder: Path, inside: str = "") -> None:
    """Say now, and not after minutes of work, that nothing could be written.

    Args:
        folder: of `--out`.
        inside: folder in it that is tried.

    Raises:
        ConfigError: it cannot be made or written to.
    """
    probe = folder / inside / ".writable"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written to ({error.strerror}); choose another folder") from None


def episode_path(folder: Path, task: EpisodeTask) -> Path:
    """Where the episode of `task` is kept below the output folder of a comparison."""
    return folder / "episodes" / f"{task.file_stem}.npz"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Raises:
        CannotWrite: with the path; an old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CannotWrite(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def save_episode(result: EpisodeResult, path: Path) -> None:
    """Write one episode atomically."""
    header = {f.name: getattr(result, f.name) for f in fields(result) if f.name not in _ARRAY_FIELDS}
    arrays: dict[str, Any] = {"quantiles_ms": result.quantiles_ms}
    arrays.update({f"series/{name}": values for name, values in result.series.items()})
    arrays.update({f"windows/{name}": values for name, values in result.windows.items()})
    # The archive has a checksum of each array, but none of its list of arrays.
    header["arrays"] = sorted(arrays)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.array(json.dumps(header)), **arrays)
    write_atomically(path, buffer.getvalue())


def load_episode(path: Path) -> EpisodeResult:
    """Read one episode.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no episode, is damaged, or is of another version of the format.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            if header.pop("arrays") != sorted(name for name in archive.files if name != "header"):
                raise ValueError("arrays are missing")
            series = _below("series/", archive)
            windows = _below("windows/", archive)
            quantiles = archive["quantiles_ms"]
        header["classes"] = tuple(header["classes"])
        header["microservices"] = tuple(header["microservices"])
        return EpisodeResult(**header, series=series, windows=windows, quantiles_ms=quantiles)
    except FileNotFoundError:
        raise
    except Exception as error:  # where the damage is decides whether zipfile, zlib, NumPy or something below complains
        raise ValueError(f"{path}: not an episode file ({error})") from error


def _below(prefix: str, archive: Any) -> dict[str, Any]:
    return {name.removeprefix(prefix): archive[name] for name in archive.files if name.startswith(prefix)}


def stored_episode(folder: Path, task: EpisodeTask) -> tuple[EpisodeResult | None, str]:
    """The finished episode of exactly this task, if the folder has it; else None and why it cannot be used.

    The reason is empty if there is no file.
    """
    path = episode_path(folder, task)
    try:
        result = load_episode(path)
    except FileNotFoundError:
        return None, ""
    except ValueError as error:
        return None, str(error)
    wanted = task.fingerprint()
    different = [name for name in wanted if result.fingerprint.get(name) != wanted[name]]
    if different:
        return None, f"{path.name}: another {', '.join(different)}"
    if set(result.metrics["settled"]) != set(METRICS):
        return None, f"{path.name}: other metrics"
    return result, ""
