"""What is made of finished episodes: the summary, its tables, the figures and the TensorBoard logs, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imbres_gym.config import ConfigError
from imbres_gym.evaluation.aggregate import AggregateTable, aggregate
from imbres_gym.evaluation.aggregate_report import markdown_aggregate
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.figures import write_figures
from imbres_gym.evaluation.report import Row, markdown_table, summarise, write_summary
from imbres_gym.evaluation.runner import EpisodeFailure
from imbres_gym.evaluation.storage import require_writable, write_atomically
from imbres_gym.evaluation.tensorboard import write_logs


@dataclass(frozen=True)
class Written:
    """Where the outputs of a comparison are.

    Attributes:
        rows: the summary.
        aggregated: the agents over all scenarios; None for a single scenario.
        summary, table: `summary.json` and `summary.md`.
        figures: PNG files.
        tensorboard: log folder.
    """

    rows: list[Row]
    aggregated: AggregateTable | None
    summary: Path
    table: Path
    figures: list[Path]
    tensorboard: Path


def prepare_folder(folder: Path, resume: bool) -> None:
    """Make sure that `folder` can be written to and that no finished episode is overwritten unasked.

    Raises:
        ConfigError: it cannot be written to; or it has episodes, and the comparison is not to be resumed.
    """
    require_writable(folder, "episodes")
    if not resume and any((folder / "episodes").glob("*.npz")):
        raise ConfigError(f"--out {folder}: has episodes already; add --resume to go on, or choose another folder")


def write_outputs(
    folder: Path,
    results: Sequence[EpisodeResult],
    failures: Sequence[EpisodeFailure],
    figures: bool = True,
    reference: str | None = None,
) -> Written:
    """Write everything that is derived from the episodes; earlier outputs of the same names are replaced.

    Args:
        folder: output folder of the comparison.
        results: finished episodes, at least one.
        failures: episodes that could not be finished.
        figures: draw them, too.
        reference: agent that the others are compared with over several scenarios; the first one if None.
    """
    rows = summarise(results)
    several = len({result.scenario for result in results}) > 1
    aggregated = aggregate(results, reference or results[0].agent) if several else None
    summary, table = folder / "summary.json", folder / "summary.md"
    write_summary(summary, rows, results, failures, aggregated)
    tables = [markdown_table(rows)] + ([markdown_aggregate(aggregated)] if aggregated else [])
    write_atomically(table, "\n".join(tables).encode())
    images = write_figures(results, rows, folder / "figures", aggregated) if figures else []
    logs = folder / "tensorboard"
    write_logs(results, logs, images)
    return Written(rows, aggregated, summary, table, images, logs)
