"""Statistics of a download, beside those that the generator follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imbres_gym.alibaba.digest import Digest
from imbres_gym.alibaba.hosts import read_hosts
from imbres_gym.alibaba.reduction import MINUTE_MS
from imbres_gym.alibaba.schemas import Table
from imbres_gym.alibaba.statistics import call_statistics, calls_of, levels_of, utilisation_statistics
from imbres_gym.alibaba.traces import STORE_KINDS

if TYPE_CHECKING:
    import polars as pl

HOSTS_LOOKED_AT = 500
"""Hosts whose series are looked at, as many as in Imbres Fig. 1."""
LARGE_CHANGE = 0.3


@dataclass(frozen=True)
class Fact:
    """One line of a summary."""

    table: Table
    name: str
    value: str
    known: str = ""
    """The same of what the generator follows."""


def summarise(digest: Digest) -> list[Fact]:
    """The statistics of every table that the download has, in the order of `Table`."""
    by_table = {Table.HOSTS: _hosts, Table.CONTAINERS: _containers, Table.RATES: _rates, Table.CALLS: _calls}
    return [fact for table, facts in by_table.items() if table in digest.kept for fact in facts(digest)]


def _hosts(digest: Digest) -> Iterator[Fact]:
    hosts = read_hosts(digest, HOSTS_LOOKED_AT)
    known, cpu = utilisation_statistics(), hosts.cpu
    shown = cpu.shape[1]
    yield Fact(Table.HOSTS, "hosts", f"{hosts.all_hosts} (of these, {shown} in what follows)")
    yield Fact(Table.HOSTS, "minutes", f"{len(cpu)}, from minute {hosts.first_minute} on")
    yield Fact(Table.HOSTS, "mean CPU utilisation", f"{cpu.mean():.2f}", f"{known.mean:.2f}")
    yield Fact(Table.HOSTS, "mean memory utilisation", f"{hosts.memory.mean():.2f}")
    spread = f"{cpu.mean(axis=0).std():.3f}", f"{known.deviation_between:.3f}"
    yield Fact(Table.HOSTS, "deviation of the hosts' means", *spread)
    within = float(np.median(cpu.std(axis=0)))
    yield Fact(Table.HOSTS, "deviation within a host", f"{within:.3f}", f"{known.deviation_within:.3f} over 8 days")
    yield Fact(Table.HOSTS, "5 %, 50 %, 95 % of all values", _quantiles(cpu.ravel(), "{:.2f}", (0.05, 0.5, 0.95)))
    if len(cpu) > 2:
        moved = cpu[:, cpu.std(axis=0) > 0.0]
        correlations = [float(np.corrcoef(series[:-1], series[1:])[0, 1]) for series in moved.T if _varies(series)]
        if correlations:
            shown_value = f"{np.median(correlations):.2f}"
            yield Fact(Table.HOSTS, "autocorrelation after a minute", shown_value, f"{known.autocorrelation[1]:.2f}")
        changes = float(np.mean(np.abs(np.diff(cpu, axis=0)) > LARGE_CHANGE))
        yield Fact(Table.HOSTS, "changes of more than 0.3 a minute", f"{changes:.2%}", f"{known.large_changes:.2%}")


def _containers(digest: Digest) -> Iterator[Fact]:
    import polars as pl

    at_once = digest.table(Table.CONTAINERS).with_columns(
        mean=pl.col("cpu") / pl.col("rows"), square=pl.col("cpu_square") / pl.col("rows")
    )
    each = (
        at_once.group_by("microservice")
        .agg(
            pl.col("rows").max().alias("containers"),
            pl.col("mean").mean(),
            (pl.col("square") - pl.col("mean") ** 2).clip(0.0).sqrt().mean().alias("deviation"),
        )
        .collect(engine="streaming")
    )
    containers = each["containers"].to_numpy().astype(float)
    yield Fact(Table.CONTAINERS, "microservices", f"{len(each)}")
    yield Fact(Table.CONTAINERS, "containers", f"{containers.sum():.0f}")
    yield Fact(
        Table.CONTAINERS, "mean containers of a microservice", f"{containers.mean():.1f}", "28 (arXiv 2504.13141)"
    )
    yield Fact(
        Table.CONTAINERS, "5 %, 50 %, 95 % of the microservices", _quantiles(containers, "{:.0f}", (0.05, 0.5, 0.95))
    )
    yield Fact(Table.CONTAINERS, "mean CPU utilisation", f"{_mean(each, 'mean'):.3f}")
    yield Fact(Table.CONTAINERS, "deviation between containers of one", f"{_mean(each, 'deviation'):.3f}")


def _rates(digest: Digest) -> Iterator[Fact]:
    import polars as pl

    at_once = digest.table(Table.RATES)
    each = at_once.group_by("microservice").agg(pl.col("calls").mean()).collect(engine="streaming")
    unit = "calls/s" if digest.version == "v2021" else "of an unknown unit"
    yield Fact(Table.RATES, "microservices", f"{len(each)}")
    yield Fact(Table.RATES, "calls of all together", f"{float(each['calls'].sum()):.4g} {unit}")


def _calls(digest: Digest) -> Iterator[Fact]:
    import polars as pl

    known = call_statistics()
    once = (
        digest.table(Table.CALLS)
        .with_columns(pl.col("kind").fill_null("").str.to_lowercase())
        .unique(["trace", "rpc"])
        .with_columns(level=pl.col("rpc").str.count_matches(".", literal=True))
    )
    requests = (
        once.group_by("trace")
        .agg(pl.len().alias("calls"), (pl.col("level").max() - pl.col("level").min() + 1).alias("levels"))
        .collect(engine="streaming")
    )
    calls, levels = requests["calls"].to_numpy(), requests["levels"].to_numpy()
    stores = once.select(pl.col("kind").is_in(sorted(STORE_KINDS)).mean()).collect().item()
    span = once.select((pl.col("timestamp").max() - pl.col("timestamp").min()) / MINUTE_MS).collect().item()
    callees = once.select(pl.col("downstream").n_unique()).collect().item()
    yield Fact(Table.CALLS, "requests", f"{len(requests)} (a share of {digest.sample:.3g} of those in the files)")
    yield Fact(Table.CALLS, "minutes", f"{span:.1f}")
    yield Fact(Table.CALLS, "microservices and stores", f"{callees}")
    mean, deep = (float(h.values @ h.chances) for h in map(known.per_request, (calls_of, levels_of)))
    yield Fact(Table.CALLS, "mean calls of a request", f"{calls.mean():.2f}", f"{mean:.2f} (services alike)")
    yield Fact(Table.CALLS, "50 %, 90 %, 99 % of the requests", _quantiles(calls, "{:.0f}", (0.5, 0.9, 0.99)))
    yield Fact(Table.CALLS, "mean levels of a request", f"{levels.mean():.2f}", f"{deep:.2f} (services alike)")
    yield Fact(Table.CALLS, "share of calls to stores", f"{stores:.0%}")


def _quantiles(values: NDArray[np.float64], form: str, which: tuple[float, ...]) -> str:
    return ", ".join(form.format(value) for value in np.quantile(values, which))


def _mean(frame: pl.DataFrame, column: str) -> float:
    return float(np.mean(frame[column].to_numpy()))


def _varies(series: NDArray[np.float64]) -> bool:
    return bool(series[:-1].std() > 0.0 and series[1:].std() > 0.0)
