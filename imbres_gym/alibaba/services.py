"""The services of a call graph table: how many requests each had, minute by minute, and their merged call trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imbres_gym.alibaba.digest import Digest
from imbres_gym.alibaba.merging import Node, merge
from imbres_gym.alibaba.reduction import MINUTE_MS
from imbres_gym.alibaba.schemas import Table
from imbres_gym.alibaba.traces import Callee, CallRecord, Row, build_trace
from imbres_gym.config import ConfigError

if TYPE_CHECKING:
    import polars as pl

MOST_REQUESTS = 2000
"""Requests of a service that its call tree is merged from; those with the lowest hash, where there are more."""

RECORDED_SHARE = {"v2021": 0.005}
"""Share of all requests that are in the files: the README of v2021; that of v2022 does not say."""


@dataclass(frozen=True)
class Service:
    """One service: an entry with the operation that end users call."""

    name: str
    entry: Callee
    tree: Node
    requests: int
    """Sampled requests, all of them."""
    per_minute: NDArray[np.int64]
    """(n_minutes,) of these, from the first minute of the table on."""


@dataclass(frozen=True)
class Services:
    """The largest services of a download."""

    services: tuple[Service, ...]
    """Most requests first."""
    first_minute: int
    """Of the table [min since the start of the trace]."""
    all_services: int
    all_requests: int
    unusable: int
    """Of the requests of the largest services that were looked at: those whose entry is unknown or another one."""
    looked_at: int


def read_services(digest: Digest, most: int) -> Services:
    """The services with most requests.

    Raises:
        ConfigError: there is no call graph table, or no service in it has a request whose entry is known.
    """
    import polars as pl

    requests = _requests(digest.table(Table.CALLS).collect(engine="streaming"))
    minutes = requests["minute"]
    first = int(minutes.min() or 0)  # type: ignore[arg-type]
    n_minutes = int(minutes.max() or 0) - first + 1  # type: ignore[arg-type]
    largest = (
        requests.group_by("service")
        .agg(pl.len().alias("requests"))
        .sort(["requests", "service"], descending=[True, False])
        .head(most)
    )
    found, unusable, looked_at = list[Service](), 0, 0
    for name, count in largest.iter_rows():
        mine = requests.filter(pl.col("service") == name)
        traces = list(_traces(digest, mine.sort("trace").head(MOST_REQUESTS)["trace"]))
        usable = [trace for trace in traces if trace is not None]
        looked_at, unusable = looked_at + len(traces), unusable + len(traces) - len(usable)
        if not usable:
            continue
        entries = [trace.callee for trace in usable]
        entry = max(sorted(set(entries)), key=entries.count)
        same = [trace for trace in usable if trace.callee == entry]
        unusable += len(usable) - len(same)
        per_minute = np.bincount(mine["minute"].to_numpy() - first, minlength=n_minutes)
        found.append(Service(name, entry, merge(same), count, per_minute))
    if not found:
        raise ConfigError(
            f"no request of {looked_at} has an entry that is known; use more files of calls, or a larger --sample"
        )
    return Services(
        tuple(found), first, requests["service"].n_unique(), requests["trace"].n_unique(), unusable, looked_at
    )


def _requests(rows: pl.DataFrame) -> pl.DataFrame:
    """(trace, service, minute): v2021 has no column for the service, there it is the entry and its interface."""
    import polars as pl

    shortest = rows.sort(pl.col("rpc").str.count_matches(".", literal=True), "timestamp", maintain_order=True)
    entry = pl.concat_str([pl.col("downstream").fill_null(""), pl.lit("/"), pl.col("interface").fill_null("")])
    return (
        shortest.with_columns(pl.coalesce("service", entry).alias("service"))
        .group_by("trace", maintain_order=True)
        .agg(pl.col("service").first(), (pl.col("timestamp").min() // MINUTE_MS).alias("minute"))
    )


def _traces(digest: Digest, traces: pl.Series) -> Iterator[CallRecord | None]:
    import polars as pl

    columns = ["trace", "timestamp", "rpc", "kind", "upstream", "interface", "downstream", "rt"]
    calls = digest.table(Table.CALLS).select(columns).filter(pl.col("trace").is_in(traces.implode()))
    rows = calls.with_columns(pl.col("kind").fill_null("").str.to_lowercase()).collect(engine="streaming")
    request, current = None, list[Row]()
    for trace, *row in rows.sort("trace", "timestamp", "rpc").iter_rows():
        if trace != request and current:
            yield build_trace(current)
            current = []
        request = trace
        current.append((row[0], row[1], row[2], row[3], row[4], row[5], row[6]))
    if current:
        yield build_trace(current)
