"""What is known of Alibaba's call graphs and machines, as `scripts/derive_alibaba_statistics.py` derived it.

Sources: 84,030 call graphs of 2,014 services of cluster-trace-microservices-v2022 (github.com/dufanrong/DGG), calls by
depth over the whole trace (github.com/Cloud-and-Distributed-Systems/Erms, AE/graphGenerator), CPU of 16 machines over 8
days (cluster-trace-v2018). The files themselves are not shipped.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Histogram:
    """Values and their chances."""

    values: Integers
    """(n,) or (n, k)."""
    chances: Floats
    """(n,), sums to 1."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> Histogram:
        """From rows of values, each with its weight at the end."""
        table = np.array(rows, dtype=np.float64)
        values = table[:, :-1].astype(np.int64)
        return cls(values[:, 0] if values.shape[1] == 1 else values, table[:, -1] / table[:, -1].sum())

    def draw(self, rng: np.random.Generator) -> Any:
        """One of the values."""
        return self.values[min(int(np.searchsorted(np.cumsum(self.chances), rng.random())), len(self.values) - 1)]


@dataclass(frozen=True)
class CallStatistics:
    """Call graphs; every service counts alike, whatever its number of requests."""

    shapes: tuple[str, ...]
    """The calls of a request as a tree without names: m for a microservice, with what it calls in brackets, s for a
    store; "m(ms)" is an entry that calls a microservice and a store."""
    shape_chances: Floats
    """Share of each, sums to 1."""
    store_repeats: Histogram
    """How often a call to a store is made, one after another."""
    microservice_repeats: Histogram
    large_share: float
    """Share of services whose graphs together have more calls than nine tenths of the services have."""
    large_sizes: Floats
    """(41,) quantiles of the calls of these large services."""
    large_probability: Floats
    """(10,) share of their calls whose chance, once the caller is reached, is 0 to 0.1, 0.1 to 0.2, ..."""
    log10_requests: Floats
    """(101,) quantiles of the requests of a service, as decimal logarithms."""

    def per_request(self, of_shape: Callable[[str], int]) -> Histogram:
        """How a number that a shape has is distributed; see `calls_of` and `levels_of`."""
        numbers = np.array([of_shape(shape) for shape in self.shapes])
        values = np.unique(numbers)
        return Histogram(values, np.array([self.shape_chances[numbers == value].sum() for value in values]))


def calls_of(shape: str) -> int:
    """Distinct calls of a request, the end user's included."""
    return shape.count("m") + shape.count("s")


def levels_of(shape: str) -> int:
    """Calls on the longest path of a request."""
    return 1 + max(itertools.accumulate({"(": 1, ")": -1}.get(letter, 0) for letter in shape))


@dataclass(frozen=True)
class BranchingStatistics:
    """Calls by level over a whole trace, for graphs larger than those of `CallStatistics`."""

    leaf: Floats
    """(20,) chance that a microservice calls nothing, by level - 1."""
    calls: tuple[Histogram, ...]
    """Number of calls of one that does, by level - 1."""
    store_share: Floats
    """(20,) share of these calls that go to stores."""


@dataclass(frozen=True)
class UtilisationStatistics:
    """CPU utilisation [0-1] of 16 machines; what concerns one machine is the median of the 14 that are in use."""

    mean: float
    deviation_between: float
    """Of the machines' means."""
    deviation_within: float
    deviation_within_hour: float
    autocorrelation: dict[int, float]
    """By lag [min]."""
    slow_share: float
    """Share of the variance within a machine that decorrelates over hours."""
    slow_autocorrelation: float
    """Of that part, per minute."""
    fast_autocorrelation: float
    """Of the rest, per minute."""
    large_changes: float
    """Share of minutes that begin and end more than 0.3 apart."""
    quantiles: dict[float, float]
    """Of all values of all 16 machines."""


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((files("imbres_gym.alibaba") / "statistics.json").read_text(encoding="utf-8"))
    return content


@cache
def call_statistics() -> CallStatistics:
    """The shipped statistics of call graphs."""
    graphs = _content()["graphs"]
    chances = np.array(list(graphs["shapes"].values()))
    return CallStatistics(
        shapes=tuple(graphs["shapes"]),
        shape_chances=chances / chances.sum(),
        store_repeats=Histogram.of(graphs["repeats"]["store"]),
        microservice_repeats=Histogram.of(graphs["repeats"]["microservice"]),
        large_share=graphs["large_share"],
        large_sizes=np.array(graphs["large_sizes"], dtype=np.float64),
        large_probability=np.array(graphs["large_probability_bins"]) / sum(graphs["large_probability_bins"]),
        log10_requests=np.array(graphs["log10_requests"]),
    )


@cache
def branching_statistics() -> BranchingStatistics:
    """The shipped statistics of calls by level."""
    content = _content()["branching"]
    levels = sorted(content["calls"], key=int)
    return BranchingStatistics(
        leaf=np.array([content["leaf"][level] for level in levels]),
        calls=tuple(Histogram.of(content["calls"][level]) for level in levels),
        store_share=np.array([content["store_share"][level] for level in levels]),
    )


@cache
def utilisation_statistics() -> UtilisationStatistics:
    """The shipped statistics of machines."""
    content = _content()["utilisation"]
    return UtilisationStatistics(
        mean=content["mean_between_machines"],
        deviation_between=content["deviation_between_machines"],
        deviation_within=content["deviation_within_machine"],
        deviation_within_hour=content["deviation_within_hour"],
        autocorrelation={int(lag): value for lag, value in content["autocorrelation"].items()},
        slow_share=content["slow_share_of_variance"],
        slow_autocorrelation=content["slow_autocorrelation_per_minute"],
        fast_autocorrelation=content["fast_autocorrelation_per_minute"],
        large_changes=content["changes_above_0.3_per_minute"],
        quantiles={float(q): value for q, value in content["quantiles"].items()},
    )
