"""What is made of finished episodes: the summary, its tables, the figures and the TensorBoard logs, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imbres_gym.config import ConfigError
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.figures import write_figures
from imbres_gym.evaluation.report import Row, markdown_table, summarise, write_summary
from imbres_gym.evaluation.runner import EpisodeFailure
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.evaluation.tensorboard import write_logs


@dataclass(frozen=True)
class Written:
    """Where the outputs of a comparison are.

    Attributes:
        rows: the summary.
        summary, table: `summary.json` and `summary.md`.
        figures: PNG files.
        tensorboard: log folder.
    """

    rows: list[Row]
    summary: Path
    table: Path
    figures: list[Path]
    tensorboard: Path


def prepare_folder(folder: Path, resume: bool) -> None:
    """Make sure that `folder` can be written to and that no finished episode is overwritten unasked.

    Raises:
        ConfigError: it cannot be written to; or it has episodes, and the comparison is not to be resumed.
    """
    episodes = folder / "episodes"
    try:
        episodes.mkdir(parents=True, exist_ok=True)
        probe = episodes / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written to ({error.strerror})") from None
    if not resume and any(episodes.glob("*.npz")):
        raise ConfigError(f"--out {folder}: has episodes already; add --resume to go on, or choose another folder")


def write_outputs(
    folder: Path, results: Sequence[EpisodeResult], failures: Sequence[EpisodeFailure], figures: bool = True
) -> Written:
    """Write everything that is derived from the episodes; earlier outputs of the same names are replaced."""
    rows = summarise(results)
    summary, table = folder / "summary.json", folder / "summary.md"
    write_summary(summary, rows, results, failures)
    write_atomically(table, markdown_table(rows).encode())
    images = write_figures(results, rows, folder / "figures") if figures else []
    logs = folder / "tensorboard"
    write_logs(results, logs, images)
    return Written(rows, summary, table, images, logs)
