"""What is kept of the rows of each table, and how what is kept of two blocks is put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imbres_gym.alibaba.schemas import INCOMING, Table

if TYPE_CHECKING:
    import polars as pl

MINUTE_MS = 60_000

HASH_SEED = 20220601
"""Of the hash that samples requests; only sampled requests of one seed can be put together."""

KEYS = {
    Table.HOSTS: ["host", "minute"],
    Table.CONTAINERS: ["microservice", "timestamp"],
    Table.RATES: ["microservice", "timestamp"],
}
"""Kept rows with the same keys are added up; of calls, every row of a sampled request is kept."""


def reduce(table: Table, frame: pl.DataFrame, sample: float) -> pl.DataFrame:
    """What is kept of the rows of a block; see `combine`.

    Args:
        table: of the rows.
        frame: `Block.frame`.
        sample: share of requests whose calls are kept [0-1]; the same requests in every file.
    """
    import polars as pl

    if table is Table.CALLS:
        limit = int(sample * (2**64 - 1))
        service = pl.col("service") if "service" in frame.columns else pl.lit(None, dtype=pl.String).alias("service")
        return frame.with_columns(service, pl.col("trace").hash(HASH_SEED)).filter(pl.col("trace") <= limit)
    if table is Table.RATES:
        if "metric" in frame.columns:
            incoming = [f"{way}_mcr" for way in INCOMING]
            frame = frame.filter(pl.col("metric").str.to_lowercase().is_in(incoming))
            frame = frame.with_columns(calls=pl.col("value"))
        else:
            frame = frame.with_columns(calls=pl.sum_horizontal(f"{way}_mcr" for way in INCOMING))
        kept = frame.select("microservice", "timestamp", "calls")
    else:
        kept = frame.with_columns(
            minute=pl.col("timestamp") // MINUTE_MS, cpu_square=pl.col("cpu") ** 2, rows=pl.lit(1, dtype=pl.UInt32)
        ).select(*KEYS[table], "cpu", "cpu_square", "memory", "rows")
    return combine(table, kept)


def combine(table: Table, kept: pl.DataFrame) -> pl.DataFrame:
    """Rows of the same keys added up; calls as they are."""
    import polars as pl

    return kept if table is Table.CALLS else kept.group_by(KEYS[table]).agg(pl.all().sum())
