"""The files of a download, read in blocks of bounded size: .csv, .csv.gz, and .tar.gz with .csv inside."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from imbres_gym.alibaba.schemas import Schema, Table, recognise, split_header
from imbres_gym.config import ConfigError

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".tar.gz", ".tgz", ".csv.gz", ".csv")

BLOCK_BYTES = 1 << 25
"""Text that is parsed at once: 32 MiB, which takes some ten times as much memory."""

MORE = "_more"
"""Column that catches what is beyond the last column of the header."""
_RPC_ID = r"^\d+(\.\d+)*$"


@dataclass(frozen=True)
class Part:
    """One file of a download."""

    file: Path
    schema: Schema

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.file.stat().st_size


@dataclass(frozen=True)
class Block:
    """Some rows of a part."""

    frame: pl.DataFrame
    """The schema's columns, under our names; timestamps as Int64 [ms], numbers as Float64, the rest as String."""
    rows: int
    """Rows that were read."""
    malformed: int
    """Of these, rows that were left out: too few or too many cells, or no number where one must be."""
    repaired: int
    """Of these, rows whose `rpc_id` holds a comma without quotes (alibaba/clusterdata#205), which were mended."""
    position: int
    """Bytes of the file that are done."""


def find_parts(folder: Path) -> list[Part]:
    """The files of a download, each recognised by its header; in the order of table and number.

    Args:
        folder: with files at any depth, or one file.

    Raises:
        ConfigError: nothing there, a file of another kind, a damaged file, or files of both versions.
    """
    if not folder.exists():
        raise ConfigError(f"{folder}: there is no such file or folder")
    found = [folder] if folder.is_file() else [f for f in folder.rglob("*") if f.is_file()]
    files = sorted((f for f in found if f.name.endswith(SUFFIXES) and not f.name.startswith(".")), key=_natural)
    if not files:
        raise ConfigError(f"{folder}: no files of a trace; they end in {', '.join(SUFFIXES)}")
    parts = [Part(file, recognise(_first_line(file), file)) for file in files]
    versions = {part.schema.version: part.file for part in parts if part.schema.version}
    if len(versions) > 1:
        each = ", ".join(f"{file} is of {version}" for version, file in versions.items())
        raise ConfigError(f"{folder}: files of two traces: {each}; put them into folders of their own")
    order = list(Table)
    return sorted(parts, key=lambda part: order.index(part.schema.table))


def read_blocks(part: Part) -> Iterator[Block]:
    """Yield all rows of a part, a block at a time.

    Raises:
        ConfigError: the file is damaged.
    """
    with _sources(part.file) as (raw, streams):
        for stream in streams:
            header = split_header(stream.readline().decode("utf-8", "replace"))
            if part.schema.missing(header):
                raise ConfigError(f"{part.file}: its files have different columns; one has {', '.join(header)}")
            rest = b""
            while True:
                chunk = stream.read(BLOCK_BYTES)
                whole, newline, rest = (rest + chunk).rpartition(b"\n")
                if not chunk:
                    whole, newline, rest = rest, b"\n", b""
                if whole.strip():
                    yield parse(whole + newline, header, part.schema, raw.tell())
                if not chunk:
                    break


def parse(text: bytes, header: list[str], schema: Schema, position: int) -> Block:
    """Parse lines of a file that has this header; see `Block`."""
    import polars as pl

    names = [f"{index}" for index in range(len(header))]
    # polars takes the number of columns from the first line: one that has all of them goes before.
    frame = pl.read_csv(
        b"," * len(header) + b"\n" + text,
        has_header=False,
        schema={name: pl.String for name in [*names, MORE]},
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
        quote_char=None,
    ).slice(1)
    positions = schema.positions(header)
    repaired = 0
    ragged = pl.col(MORE).is_not_null()
    if schema.table is Table.CALLS:
        frame, repaired = _mend_rpc_ids(frame, names, names[positions["rpc"]])
    frame = frame.filter(~ragged)
    columns = [_cell(names[index], ours, schema) for ours, index in positions.items()]
    required = [pl.col(ours).is_not_null() for ours in positions if ours in schema.numbers or ours in _KEYS]
    complete = frame.select(columns).filter(pl.all_horizontal(required))
    rows = text.count(b"\n")
    return Block(complete, rows, rows - len(complete), repaired, position)


_KEYS = {"host", "microservice", "container", "trace", "rpc", "metric"}
"""Columns of text that must not be empty. Callers and callees may be: another record of the call may know them."""


def _cell(name: str, ours: str, schema: Schema) -> pl.Expr:
    import polars as pl

    text = pl.col(name).str.strip_chars(' "\r')
    if ours == "timestamp":
        return text.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False).alias(ours)
    if ours in schema.numbers:
        value = text.cast(pl.Float64, strict=False)
        return pl.when(value.is_finite()).then(value).alias(ours)
    return pl.when(text.str.len_bytes() > 0).then(text).alias(ours)


def _mend_rpc_ids(frame: pl.DataFrame, names: list[str], rpc: str) -> tuple[pl.DataFrame, int]:
    """Rows of one cell too many whose `rpc_id` is followed by another one: drop that, move the rest back."""
    import polars as pl

    cells = [*names, MORE]
    after = cells[cells.index(rpc) + 1]
    broken = pl.col(MORE).is_not_null() & pl.col(after).str.strip_chars(' "').str.contains(_RPC_ID)
    moved = cells[cells.index(after) :]
    mended = [
        pl.when(broken).then(pl.col(source)).otherwise(pl.col(target)).alias(target)
        for target, source in zip(moved, [*moved[1:], None], strict=True)
        if source is not None
    ]
    emptied = pl.when(broken).then(pl.lit(None, dtype=pl.String)).otherwise(pl.col(MORE)).alias(MORE)
    count = int(frame.select(broken.sum()).item())
    return (frame.with_columns([*mended, emptied]), count) if count else (frame, 0)


def _first_line(file: Path) -> str:
    with _sources(file) as (_, streams):
        for stream in streams:
            return stream.readline(1 << 16).decode("utf-8", "replace")
    raise ConfigError(f"{file}: holds no .csv file")


@contextmanager
def _sources(file: Path) -> Iterator[tuple[BinaryIO, Iterator[IO[bytes]]]]:
    """The file itself, whose position is the progress, and the texts inside, one after another."""
    try:
        with file.open("rb") as raw:
            if file.name.endswith((".tar.gz", ".tgz")):
                with tarfile.open(fileobj=raw, mode="r|gz") as archive:
                    yield raw, _members(archive)
            elif file.name.endswith(".gz"):
                with gzip.open(raw) as stream:
                    yield raw, iter([cast("IO[bytes]", stream)])
            else:
                yield raw, iter([raw])
    except (EOFError, zlib.error, tarfile.TarError, gzip.BadGzipFile) as error:
        raise ConfigError(f"{file}: damaged, most likely not downloaded to its end ({error}); fetch it again") from None
    except PermissionError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None


def _members(archive: tarfile.TarFile) -> Iterator[IO[bytes]]:
    for member in archive:
        name = member.name.rsplit("/", 1)[-1]
        if member.isfile() and name.endswith(".csv") and not name.startswith("."):
            stream = archive.extractfile(member)
            if stream is not None:
                yield stream


def _natural(file: Path) -> tuple[tuple[int, str | int], ...]:
    """Sorts MSResource_9 before MSResource_10."""
    words = re.split(r"(\d+)", file.as_posix())
    return tuple((1, int(word)) if word.isdigit() else (0, word) for word in words)
