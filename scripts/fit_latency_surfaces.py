"""Fit the response surfaces of the fluid engine: single containers, simulated by the event engine.

Run from a checkout: `python scripts/fit_latency_surfaces.py --out imbres_gym/sim/fluid/surfaces.npz`; the same command
gives the same file. `docs/fluid-engine.md` says what the surfaces are and why these numbers decide the latency.

A point is a container of 0.1 core under Poisson calls of one CPU burst, without scheduling delays: what a burst of
known demand lost to the quota is then its latency less its demand. Demands are seven equally likely values that stand
for the Gamma distribution of `imbres_gym.sim.effects`. The containers of one deployment are as many samples.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from imbres_gym.application import (  # noqa: E402
    Application,
    Call,
    ContainerSize,
    Microservice,
    Operation,
    RequestClass,
)
from imbres_gym.scenario import Hosts, Scenario  # noqa: E402
from imbres_gym.sim.effects import Effects  # noqa: E402
from imbres_gym.sim.events import EventCluster  # noqa: E402
from imbres_gym.sim.fluid.surfaces import LEVELS, Surfaces, save_surfaces  # noqa: E402
from imbres_gym.sim.interference import ConstantInterference, Level  # noqa: E402
from imbres_gym.sim.workload import ConstantWorkload  # noqa: E402

Floats = NDArray[np.float64]

LOADS = np.array([0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.775, 0.85, 0.9, 0.94, 0.97])
CALLS = 2.0 ** np.arange(-3.0, 6.5, 0.5)
SLACKS = np.array([0.0, 0.06, 0.12, 0.24, 0.36])
SHARES = np.array([0.02, 0.16, 0.5, 1.0])

CORES = 0.1
EXACT = 1e6
"""Gamma shape of a demand that is as good as constant."""
SEED = 2000
WARMUP_S, MEASURED_S = 100.0, 100.0
WANTED_CALLS = 60_000
MOST_CONTAINERS = 60
BATCH_S = 5.0
"""Means over this time tell how noisy the telemetry of a control interval is."""


@dataclass(frozen=True)
class Point:
    """What decides how long a container takes: see `imbres_gym.sim.fluid.surfaces`."""

    load: float
    calls: float
    slack: float
    share: float
    seed: int


@dataclass(frozen=True)
class Sample:
    """Losses of the calls of one point [periods]: all of it, and without the wait before the burst."""

    lost: Floats
    interrupted: Floats
    inflation: float


def scenario(point: Point, demands: Floats) -> Scenario:
    """A deployment of containers that serve calls of the given demands [core-ms]."""
    period = Effects().period_ms
    rate = point.load * CORES * 1e3 / float(demands.mean())
    replicas = int(np.clip(WANTED_CALLS / (rate * MEASURED_S), 4, MOST_CONTAINERS))
    names = [f"demand-{i}" for i in range(len(demands))]
    app = Application(
        name="one-container",
        container=ContainerSize(cores=CORES, memory_mb=1.0),
        hop_ms=0.0,
        span_share=point.share,
        microservices={
            "a": Microservice(
                operations={
                    n: Operation(cpu_ms=d, demand_shape=EXACT) for n, d in zip(names, demands.tolist(), strict=True)
                },
                workers=10**6,
                accept_queue=10**6,
            )
        },
        request_classes={
            n: RequestClass(share=1.0 / len(names), tree=Call(call=f"a/{n}"), deadline_ms=1e12) for n in names
        },
    )
    effects = Effects(
        delay_ms=0.0,
        preemption_per_ms=0.0,
        stretch_cpu=0.0,
        stretch_memory_bandwidth=0.0,
        stretch_llc=0.0,
        wake_loss_ms=0.0,
        connection_cost=0.0,
        slack_ms=point.slack * CORES * period / (Effects().cpus - 1.0),
    )
    return Scenario(
        application=app,
        hosts=Hosts(count=1, cores=1000.0, memory_mb=1e6),
        workload=ConstantWorkload(rps=rate * replicas),
        interference=ConstantInterference(levels=[Level(cpu=0.0)]),
        initial_replicas={"a": replicas},
        sla_ms=100.0,
        effects=effects,
        trace_sampling=1.0,
    )


def demands_of(point: Point) -> Floats:
    """(n,) equally likely demands [core-ms] whose first two moments make `point.calls` calls fill a quota."""
    shape, n = Effects().demand_shape, 7
    edges = gamma.ppf(np.linspace(0.0, 1.0, n + 1), shape)
    sizes = n * np.diff(gamma.cdf(edges, shape + 1.0))  # means of equally likely parts of the distribution
    quota = CORES * Effects().period_ms
    return np.asarray(sizes * quota / point.calls * sizes.mean() / np.mean(sizes**2))


def simulate(point: Point) -> Sample:
    """Simulate the containers of one point."""
    period = Effects().period_ms
    demands = demands_of(point)
    cluster = EventCluster(scenario(point, demands))
    cluster.reset(point.seed)
    cluster.advance(WARMUP_S)
    measured = cluster.advance(MEASURED_S)
    inside = point.share * demands
    lost = np.concatenate([times - inside[c] for c, times in enumerate(measured.latencies_ms)])
    spans = measured.spans
    interrupted = spans["own_ms"] - inside[spans["request_class"]]
    return Sample(
        lost=np.maximum(lost, 0.0) / period,
        interrupted=np.maximum(interrupted, 0.0) / period,
        inflation=inflation(spans, interrupted),
    )


def inflation(spans: NDArray[np.void], values: Floats) -> float:
    """How much larger the variance of a container's mean over `BATCH_S` is than with independent calls (1 or more)."""
    batch = (spans["end_s"] / BATCH_S).astype(np.int64)
    code = (batch - batch.min()) * (spans["container"].max() + 1) + spans["container"]
    count, total = np.bincount(code), np.bincount(code, values)
    used = count > 0
    mean = total[used] / count[used]
    excess = np.average((mean - values.mean()) ** 2, weights=count[used])
    variance = values.var()
    return max(1.0, float(excess * count[used].mean() / variance)) if variance > 1e-9 else 1.0


def statistics(sample: Sample) -> Floats:
    """What a surface has of one point, in the order of `Surfaces.table`."""
    tails = 1.0 - LEVELS
    return np.concatenate(
        [
            np.quantile(sample.lost, tails),
            np.quantile(sample.interrupted, tails),
            [sample.lost.mean(), sample.interrupted.mean(), sample.interrupted.std(), sample.inflation],
        ]
    )


def measure(point: Point) -> Floats:
    """Simulate a point and summarise it."""
    return statistics(simulate(point))


def grid() -> Iterator[Point]:
    """The points of the table in the order of its axes; each has a seed of its own."""
    for index, values in enumerate(itertools.product(SLACKS, SHARES, LOADS, CALLS)):
        slack, share, load, calls = (float(value) for value in values)
        yield Point(load, calls, slack, share, SEED + index)


def random_points(count: int) -> list[Point]:
    """Points between those of the grid, for the error of the interpolation."""
    rng = np.random.default_rng(SEED)
    return [
        Point(
            load=float(rng.uniform(0.1, 0.9)),
            calls=float(2.0 ** rng.uniform(0.0, 5.0)),
            slack=float(rng.uniform(0.0, 0.25)),
            share=float(0.02 ** rng.uniform(0.0, 1.0)),
            seed=SEED + 100_000 + index,
        )
        for index in range(count)
    ]


def errors(surfaces: Surfaces, points: list[Point], measured: list[Floats]) -> Floats:
    """(points, 2) error of the mean loss, and of the 95th percentile of loss and demand, relative to the measured.

    The mean loss is compared where it is a millisecond at least; elsewhere the error is NaN.
    """
    rows = []
    p95 = int(np.argmin(np.abs(LEVELS - 0.05)))
    for point, true in zip(points, measured, strict=True):
        got = surfaces.at(point.load, point.calls, point.slack, point.share)
        mean, n = got[2 * len(LEVELS)], len(LEVELS)
        base = point.share * CORES / point.calls  # mean demand inside the span, in periods
        known = true[2 * n] > 0.01
        rows.append([mean / true[2 * n] - 1.0 if known else np.nan, (got[p95] + base) / (true[p95] + base) - 1.0])
    return np.array(rows)


def main() -> None:
    """Read the command line, simulate, write the file, print the error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--checks", type=int, default=200, help="points between those of the grid")
    given = parser.parse_args()
    shape = (len(SLACKS), len(SHARES), len(LOADS), len(CALLS), -1)
    checks = random_points(given.checks)
    with ProcessPoolExecutor(given.workers) as pool:
        table = np.array(list(pool.map(measure, grid(), chunksize=16))).reshape(shape)
        true = list(pool.map(measure, checks, chunksize=8))
    surfaces = Surfaces.from_statistics(LOADS, CALLS, SLACKS, SHARES, table, np.zeros(4))
    error = np.abs(errors(surfaces, checks, true))
    summary = np.concatenate([np.nanquantile(error, [0.5, 0.9], axis=0).T.ravel()])
    save_surfaces(Surfaces.from_statistics(LOADS, CALLS, SLACKS, SHARES, table, summary), given.out)
    print("relative error, median and 90th percentile: mean loss {:.3f} {:.3f}, p95 {:.3f} {:.3f}".format(*summary))


if __name__ == "__main__":
    main()
