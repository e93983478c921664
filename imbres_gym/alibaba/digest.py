"""A download, read once: each file is reduced to what is needed, and kept, so that Ctrl-C loses no finished file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imbres_gym.alibaba.parts import Part, find_parts, read_blocks
from imbres_gym.alibaba.reduction import KEYS, combine, reduce
from imbres_gym.alibaba.schemas import Table
from imbres_gym.config import ConfigError

if TYPE_CHECKING:
    import polars as pl

FORMAT = 1
"""Of the kept files; another one is not read."""

SAMPLED_BYTES = 300_000_000
"""Text of calls that is kept, about, where no share is given."""
_PACKED = 6.0
"""Text per byte of a packed file of calls: estimate."""

OnProgress = Callable[[Part, int, bool], None]
"""Called with a part, the bytes of it that are done, and whether it is finished."""


@dataclass(frozen=True)
class Counts:
    """What was read of a table."""

    files: int
    rows: int
    malformed: int
    """Rows left out."""
    repaired: int
    """Rows mended and used."""


@dataclass(frozen=True)
class Digest:
    """A download, reduced."""

    version: str
    """"v2021" or "v2022"; where the files could be of either, "v2022"."""
    sample: float
    """Share of the requests in the files whose calls are kept [0-1]."""
    counts: dict[Table, Counts]
    kept: dict[Table, tuple[Path, ...]]

    def table(self, table: Table) -> pl.LazyFrame:
        """What is kept of a table; of rows with the same keys in several files, their sum.

        Raises:
            ConfigError: the download has no file of it.
        """
        import polars as pl

        if table not in self.kept:
            raise ConfigError(f"the download has no file of {table}; docs/alibaba.md says which files are needed")
        frame = pl.scan_parquet(list(self.kept[table]))
        return frame if table is Table.CALLS else frame.group_by(KEYS[table]).agg(pl.all().sum())


def sample_that_fits(parts: Sequence[Part]) -> float:
    """Share of requests whose calls make about `SAMPLED_BYTES` of text."""
    text = sum(
        part.size * (1.0 if part.file.suffix == ".csv" else _PACKED)
        for part in parts
        if part.schema.table is Table.CALLS
    )
    return min(1.0, SAMPLED_BYTES / text) if text else 1.0


def digest(folder: Path, cache: Path, sample: float | None, on_progress: OnProgress) -> Digest:
    """Read a download, or what is not read of it yet.

    Args:
        folder: the download, or one of its files.
        cache: folder for what is kept of each file; goes on with what it has of the same files.
        sample: share of requests whose calls are kept, above 0; None for `sample_that_fits`.
        on_progress: see `OnProgress`.

    Raises:
        ConfigError: see `find_parts` and `read_blocks`.
    """
    parts = [part for part in find_parts(folder) if cache.resolve() not in part.file.resolve().parents]
    share = sample_that_fits(parts) if sample is None else sample
    cache.mkdir(parents=True, exist_ok=True)
    counts: dict[Table, Counts] = {}
    kept: dict[Table, tuple[Path, ...]] = {}
    for part in parts:
        table = part.schema.table
        file = cache / f"{table}-{_fingerprint(part, share)}.parquet"
        read = _finished(file) or _read(part, file, share, on_progress)
        on_progress(part, part.size, True)
        before = counts.get(table, Counts(0, 0, 0, 0))
        counts[table] = Counts(
            before.files + 1, before.rows + read[0], before.malformed + read[1], before.repaired + read[2]
        )
        kept[table] = (*kept.get(table, ()), file)
    versions = {part.schema.version for part in parts} - {None}
    return Digest(versions.pop() or "v2022" if versions else "v2022", share, counts, kept)


def _read(part: Part, file: Path, sample: float, on_progress: OnProgress) -> tuple[int, int, int]:
    """Reduce a part into a file; rows, malformed and repaired rows."""
    import polars as pl

    rows = malformed = repaired = 0
    kept: list[pl.DataFrame] = []
    for block in read_blocks(part):
        kept.append(reduce(part.schema.table, block.frame, sample))
        if len(kept) == 16:
            kept = [combine(part.schema.table, pl.concat(kept))]
        rows, malformed, repaired = rows + block.rows, malformed + block.malformed, repaired + block.repaired
        on_progress(part, block.position, False)
    if rows == malformed:
        raise ConfigError(f"{part.file}: none of its {rows} rows can be read as {part.schema.files}")
    unfinished = file.with_suffix(".unfinished")
    combine(part.schema.table, pl.concat(kept)).write_parquet(unfinished)
    unfinished.replace(file)
    # Written last: a part counts as finished once its counts are there.
    content = json.dumps({"rows": rows, "malformed": malformed, "repaired": repaired, "file": str(part.file)})
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(file.with_suffix(".json"))
    return rows, malformed, repaired


def _finished(file: Path) -> tuple[int, int, int] | None:
    try:
        content = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        return (content["rows"], content["malformed"], content["repaired"]) if file.is_file() else None
    except (OSError, ValueError, KeyError):
        return None


def _fingerprint(part: Part, sample: float) -> str:
    import polars as pl

    state = part.file.stat()
    of_calls = sample if part.schema.table is Table.CALLS else 1.0
    # The hash that samples requests is only the same within a version of polars.
    text = f"{FORMAT} {pl.__version__} {part.file.resolve()} {state.st_size} {state.st_mtime_ns} {of_calls!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
