"""Recorded hosts: the CPU utilisation of some, minute by minute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.alibaba.digest import Digest
from imbres_gym.alibaba.schemas import Table
from imbres_gym.config import ConfigError

COMPLETE = 0.9
"""Share of the minutes that a host must have rows in; the gaps keep the value before."""


@dataclass(frozen=True)
class RecordedHosts:
    """Some hosts of a download."""

    first_minute: int
    """[min since the start of the trace]."""
    cpu: NDArray[np.float64]
    """(n_minutes, n_hosts) [0-1]."""
    memory: NDArray[np.float64]
    """(n_minutes, n_hosts) [0-1]."""
    all_hosts: int


def read_hosts(digest: Digest, n_hosts: int) -> RecordedHosts:
    """Hosts evenly spaced in the order of their mean CPU, so that the spread between them stays.

    Args:
        digest: of a download.
        n_hosts: how many; fewer if fewer are complete.

    Raises:
        ConfigError: there is no table of hosts, or no host in it is complete.
    """
    import polars as pl

    rows = digest.table(Table.HOSTS)
    means = (
        rows.group_by("host").agg(pl.len().alias("minutes"), (pl.col("cpu").sum() / pl.col("rows").sum()).alias("mean"))
    ).collect(engine="streaming")
    span = rows.select(pl.col("minute").min().alias("first"), pl.col("minute").max().alias("last")).collect()
    first, n_minutes = int(span["first"][0]), int(span["last"][0] - span["first"][0]) + 1
    complete = means.filter(pl.col("minutes") >= COMPLETE * n_minutes).sort("mean", "host")["host"]
    if complete.is_empty():
        raise ConfigError(f"none of {len(means)} hosts has rows in {COMPLETE:.0%} of the minutes of its table")
    n = min(n_hosts, len(complete))
    chosen = complete.gather(((np.arange(n) + 0.5) / n * len(complete)).astype(np.int64)).to_list()
    kept = rows.filter(pl.col("host").is_in(chosen)).collect(engine="streaming")
    series = {name: np.full((n_minutes, n), np.nan) for name in ("cpu", "memory")}
    column = {host: index for index, host in enumerate(chosen)}
    at = kept["minute"].to_numpy() - first, np.array([column[host] for host in kept["host"].to_list()])
    for name, values in series.items():
        values[at] = (kept[name] / kept["rows"]).to_numpy()
        _fill_gaps(values)
    return RecordedHosts(first, series["cpu"], series["memory"], len(means))


def _fill_gaps(values: NDArray[np.float64]) -> None:
    """Keep the value before a gap; before the first value, that one."""
    for column in values.T:
        there = np.flatnonzero(~np.isnan(column))
        before = np.searchsorted(there, np.arange(len(column)), side="right") - 1
        column[:] = column[there[np.maximum(before, 0)]]
