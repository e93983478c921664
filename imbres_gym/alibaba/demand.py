"""CPU demand per call, from the CPU use of a microservice's containers and its call rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imbres_gym.alibaba.digest import Digest
from imbres_gym.alibaba.reduction import MINUTE_MS
from imbres_gym.alibaba.schemas import Table

CONTAINER_CORES, CONTAINER_MEMORY_MB = 4.0, 8192.0
"""Of a container: Imbres section 6.4; the traces have utilisations only."""
EFFECTS = {"wake_loss_ms": 0.0}
"""What differs from `imbres_gym.sim.effects` in such containers: estimate, not measured. What a thread leaves of the
quota on a CPU is at most `slack_ms` on each of `cpus` in a period, 1 % of 400 ms. The default is calibrated on quotas
of 10 ms, and would take as much again as the CPU demand where a call needs 0.16 ms and a container has ten thousand of
them a second."""
LEAST_CPU_MS = 0.01
"""Demand of a call that used no CPU that was seen [core-ms]: estimate."""
UNMEASURED_CPU_MS = 5.0
"""Demand of a call where no microservice is measured [core-ms]: estimate, as in the generator."""


MEASURED = "trace: CPU use over call rate"
"""Source of a demand."""


@dataclass(frozen=True)
class Demand:
    """CPU demand of the calls of microservices."""

    cpu_ms: dict[str, float]
    """Mean demand of a call [core-ms], with what the containers use when idle."""
    unmeasured: float
    """Demand of a call of any other microservice: the median of those [core-ms]."""

    def of(self, microservice: str) -> tuple[float, str]:
        """Demand [core-ms] of a microservice, and its source."""
        if microservice in self.cpu_ms:
            return max(self.cpu_ms[microservice], LEAST_CPU_MS), MEASURED
        return self.unmeasured, "estimate: median of the measured microservices"


def read_demand(digest: Digest, calls_per_unit: float) -> Demand:
    """Demands of all microservices with both CPU use and calls in the same minutes.

    Args:
        digest: of a download; without containers or rates nothing is measured.
        calls_per_unit: calls/s that 1 in the call rates means: 1 in v2021, whose rates are calls/s.
    """
    import polars as pl

    if Table.CONTAINERS not in digest.kept or Table.RATES not in digest.kept:
        return Demand({}, UNMEASURED_CPU_MS)
    minute = (pl.col("timestamp") // MINUTE_MS).alias("minute")
    # Several times within a minute are averaged: each has all containers.
    used = digest.table(Table.CONTAINERS).group_by("microservice", minute).agg(pl.col("cpu").mean())
    called = digest.table(Table.RATES).group_by("microservice", minute).agg(pl.col("calls").mean())
    sums = (
        used.join(called, on=["microservice", "minute"])
        .group_by("microservice")
        .agg(pl.col("cpu").sum(), pl.col("calls").sum())
        .filter(pl.col("calls") > 0.0)
        .collect(engine="streaming")
    )
    cpu_ms = 1000.0 * CONTAINER_CORES * sums["cpu"] / (calls_per_unit * sums["calls"])
    measured = dict(zip(sums["microservice"].to_list(), cpu_ms.to_list(), strict=True))
    return Demand(measured, float(np.median(list(measured.values()))) if measured else UNMEASURED_CPU_MS)


def calls_per_unit(digest: Digest, requests_per_sample: float) -> float:
    """Calls/s that 1 in the call rates of v2022 means, whose scale is not published.

    The calls per second of the call graphs over the rates, for all microservices that have both.

    Args:
        digest: of a download.
        requests_per_sample: requests that one sampled request stands for.
    """
    import polars as pl

    if Table.RATES not in digest.kept:
        return 1.0
    calls = digest.table(Table.CALLS)
    minute = pl.col("timestamp") // MINUTE_MS
    minutes = calls.select(minute.max() - minute.min() + 1).collect().item()
    # A remote call is written down twice, by caller and callee.
    remote = calls.filter(pl.col("kind").str.to_lowercase().is_in(["rpc", "http"]))
    once = remote.unique(["trace", "rpc", "interface", "downstream"])
    seen = once.group_by(pl.col("downstream").alias("microservice")).agg(pl.len().alias("seen"))
    rates = digest.table(Table.RATES).group_by("microservice", "timestamp").agg(pl.col("calls").sum())
    mean = rates.group_by("microservice").agg(pl.col("calls").mean())
    both = seen.join(mean, on="microservice").filter(pl.col("calls") > 0.0).collect(engine="streaming")
    total = float(both["calls"].sum())
    if total <= 0.0:
        return 1.0
    per_second: float = float(both["seen"].sum()) * requests_per_sample / (60.0 * minutes)
    return per_second / total
