"""Latencies from a Prometheus histogram: percentiles, and a stand-in for the single values that it does not keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Histogram:
    """Observations per second, by bucket.

    Attributes:
        edges_ms: (B,) rising upper edges of the finite buckets, at least one; the first bucket begins at 0.
        rate: (B + 1,) observations/s of each bucket, >= 0; the last one is of those above every finite edge.
    """

    edges_ms: Floats
    rate: Floats

    @property
    def total(self) -> float:
        """Observations/s."""
        return float(self.rate.sum())

    def quantile_ms(self, quantile: float) -> float:
        """By linear interpolation inside the bucket, as PromQL's `histogram_quantile`; 0 without observations.

        What is above every finite edge counts as that edge.
        """
        total = self.total
        if total <= 0.0:
            return 0.0
        rank = quantile * total
        cumulative = np.cumsum(self.rate)
        index = int(np.searchsorted(cumulative, rank * (1.0 - 1e-12), side="left"))
        if index >= len(self.edges_ms):
            return float(self.edges_ms[-1])
        low = 0.0 if index == 0 else float(self.edges_ms[index - 1])
        inside = self.rate[index]
        before = cumulative[index] - inside
        part = (rank - before) / inside if inside > 0.0 else 1.0
        return low + (float(self.edges_ms[index]) - low) * float(np.clip(part, 0.0, 1.0))

    def above(self, limit_ms: float) -> float:
        """Share of the observations above a limit [0-1], interpolated inside the bucket; 0 without observations."""
        total = self.total
        if total <= 0.0:
            return 0.0
        lows = np.concatenate([[0.0], self.edges_ms[:-1]])
        inside = np.clip((self.edges_ms - limit_ms) / (self.edges_ms - lows), 0.0, 1.0)
        # What is above every finite edge may be above any limit: it counts as slow.
        return float((inside @ self.rate[:-1] + self.rate[-1]) / total)

    def values_ms(self, count: int) -> Floats:
        """`count` latencies spread as the histogram says, rising: what stands for the requests it has counted.

        Any percentile of them is right within the width of a bucket. Empty without observations.
        """
        if count <= 0 or self.total <= 0.0:
            return np.zeros(0)
        ranks = (np.arange(count) + 0.5) / count * self.total
        cumulative = np.concatenate([[0.0], np.cumsum(self.rate[:-1])])
        values: Floats = np.interp(ranks, cumulative, np.concatenate([[0.0], self.edges_ms]))
        return values


def from_buckets(cumulative: Mapping[float, float], unit_ms: float = 1000.0) -> Histogram | None:
    """A histogram from cumulative rates by upper edge (label `le`), infinity included.

    Rates of `rate()` over buckets that were scraped at once only rise; where rounding made one fall by up to a
    millionth, the fall is taken as none.

    Args:
        cumulative: upper edge -> rate of the observations up to it.
        unit_ms: unit of the edges [ms].

    Returns:
        None if there is no infinite or no finite bucket, an edge is not above 0, or the rates are contradictory:
        negative, or clearly falling.
    """
    edges = sorted(cumulative)
    if len(edges) < 2 or not np.isinf(edges[-1]) or edges[0] <= 0.0:
        return None
    counts = np.array([cumulative[edge] for edge in edges])
    rate = np.diff(counts, prepend=0.0)
    if not np.all(np.isfinite(counts)) or np.any(rate < -1e-6 * max(float(counts.max()), 1e-300)):
        return None
    return Histogram(np.array(edges[:-1]) * unit_ms, np.maximum(rate, 0.0))


def merged(histograms: list[Histogram]) -> Histogram | None:
    """The histogram of all observations together; None without any, or where the edges differ."""
    if not histograms:
        return None
    first = histograms[0]
    if any(not np.array_equal(first.edges_ms, other.edges_ms) for other in histograms[1:]):
        return None
    return Histogram(first.edges_ms, np.sum([histogram.rate for histogram in histograms], axis=0))
