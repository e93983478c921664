"""The services of a call graph table: how many requests each had, minute by minute, and their merged call trees."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

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
    unusable: int
    """Of the requests of the largest services that were looked at: those whose entry is unknown or another one."""
    looked_at: int


def read_services(digest: Digest, most: int) -> Services:
    """The services with most requests.

    Raises:
        ConfigError: there is no call graph table, or no service in it has a request whose entry is known.
    """
    import polars as pl

    requests = _requests(digest)
    minutes = requests["minute"].to_numpy()
    first, n_minutes = int(minutes.min()), int(minutes.max() - minutes.min()) + 1
    largest = (
        requests.group_by("service")
        .agg(pl.len().alias("requests"))
        .sort(["requests", "service"], descending=[True, False])
        .head(most)
    )
    traces = _traces(digest, requests.join(largest, on="service"))
    found, unusable = list[Service](), 0
    for name, count in largest.iter_rows():
        usable = [trace for trace in traces[name] if trace is not None]
        entries = Counter(trace.callee for trace in usable)
        entry = max(sorted(entries), key=entries.__getitem__, default=None)
        same = [trace for trace in usable if trace.callee == entry]
        unusable += len(traces[name]) - len(same)
        if entry is not None:
            mine = requests.filter(pl.col("service") == name)["minute"].to_numpy()
            per_minute = np.bincount(mine - first, minlength=n_minutes)
            found.append(Service(name, entry, merge(same), count, per_minute))
    looked_at = sum(map(len, traces.values()))
    if not found:
        raise ConfigError(
            f"no request of {looked_at} has an entry that is known; use more files of calls, or a larger --sample"
        )
    return Services(tuple(found), first, requests["service"].n_unique(), unusable, looked_at)


def _requests(digest: Digest) -> pl.DataFrame:
    """(trace, service, minute): v2021 has no column for the service, there it is the entry and its interface."""
    import polars as pl

    level = pl.col("rpc").str.count_matches(".", literal=True)
    entry = pl.concat_str([pl.col("downstream").fill_null(""), pl.lit("/"), pl.col("interface").fill_null("")])
    return (
        digest.table(Table.CALLS)
        .select("trace", "timestamp", level.alias("level"), pl.coalesce("service", entry).alias("service"))
        .group_by("trace")
        .agg(
            pl.col("service").sort_by("level", "timestamp").first(),
            (pl.col("timestamp").min() // MINUTE_MS).alias("minute"),
        )
        .collect(engine="streaming")
    )


def _traces(digest: Digest, requests: pl.DataFrame) -> dict[str, list[CallRecord | None]]:
    """Service -> trees of its requests, at most `MOST_REQUESTS`."""
    import polars as pl

    chosen = requests.sort("trace").group_by("service", maintain_order=True).head(MOST_REQUESTS)
    columns = ["timestamp", "rpc", "kind", "upstream", "interface", "downstream", "rt"]
    calls = (
        digest.table(Table.CALLS)
        .select("trace", *columns)
        .with_columns(pl.col("kind").fill_null("").str.to_lowercase())
        .join(chosen.lazy().select("trace", "service"), on="trace")
        .collect(engine="streaming")
        .sort("trace", "timestamp", "rpc", "rt")
    )
    found: dict[str, list[CallRecord | None]] = {}
    for (_, service), rows in groupby(calls.select("trace", "service", *columns).iter_rows(), itemgetter(0, 1)):
        found.setdefault(service, []).append(build_trace(_row(row) for row in rows))
    return found


def _row(row: tuple[Any, ...]) -> Row:
    _, _, timestamp, rpc, kind, upstream, interface, downstream, rt = row
    return timestamp, rpc, kind, upstream, interface, downstream, rt
