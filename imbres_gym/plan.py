"""What an agent decides: load proportions, balancer, connection plan, replica counts and placement; validated."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled

FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Links:
    """The connections of one (upstream, downstream) pair of microservices.

    Attributes:
        upstream: (n_links,) int64, id of the upstream container.
        downstream: (n_links,) int64, id of the downstream container.
        weight: (n_links,) float64, share of the upstream container's calls [0-1]; the engine normalises the links
            of each upstream container, so only their ratio matters.
    """

    upstream: NDArray[np.int64]
    downstream: NDArray[np.int64]
    weight: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not self.upstream.shape == self.downstream.shape == self.weight.shape or self.weight.ndim != 1:
            raise ValueError("upstream, downstream and weight must be arrays of one length")
        if not (self.weight.min(initial=0.0) >= 0.0 and self.weight.max(initial=0.0) < np.inf):  # false for NaN
            raise ValueError("weights must be finite and >= 0")

    def __len__(self) -> int:
        return len(self.weight)


@dataclass(frozen=True)
class ConnectionPlan:
    """Which upstream container talks to which downstream container, with which weight.

    Attributes:
        links: pair index (position in `ClusterInfo.pairs`) -> its links. A pair that is absent is fully connected:
            every upstream container sends to every downstream container by the load proportions. So does an upstream
            container that has no link to a living container; of one that has lost some of its links, the share that
            they had is spread so.
    """

    links: dict[int, Links] = field(default_factory=dict)


FULL_CONNECTION = ConnectionPlan()


class Balancer(StrEnum):
    """Who picks the container of each single call, among those that the connection plan leaves to the caller."""

    WEIGHTED = "weighted"
    """At random, by the weights of the plan."""
    LEAST_REQUEST = "least-request"
    """Of two random ones, that with fewer calls of this client in flight (Envoy)."""
    PEAK_EWMA = "peak-ewma"
    """Of two random ones, that with the lower moving average of latency times calls in flight (Finagle, linkerd)."""
    WEIGHTED_ROUND_ROBIN = "weighted-round-robin"
    """In turn, in proportion to calls/s over CPU utilisation (gRPC A58)."""
    PREQUAL = "prequal"
    """By probes of calls in flight and latency (NSDI'24)."""


@dataclass(frozen=True)
class Plan:
    """One decision; a part that is None leaves what is in force.

    Attributes:
        proportions: (n_microservices, n_hosts) float64, share of a microservice's load that goes to a host; each row
            sums to 1 over the hosts where it has containers. Containers of one host share its load equally.
        connections: the connection plan.
        replicas: (n_microservices,) int64, wanted containers.
        balancer: who picks the container of each call. Every balancer but WEIGHTED, with which an episode starts,
            ignores proportions and weights; whom a caller may call is the connection plan's in any case.
        placement: (n_microservices, n_hosts) int64, wanted containers per host: a new container goes to the host with
            the largest shortfall that has room, a removed one comes from the host with the largest surplus. Nothing
            moves for its sake. A row of zeros, with which an episode starts, leaves it to the Kubernetes scheduler.
    """

    proportions: NDArray[np.float64] | None = None
    connections: ConnectionPlan | None = None
    replicas: NDArray[np.int64] | None = None
    balancer: Balancer | None = None
    placement: NDArray[np.int64] | None = None


def balanced_proportions(ready: NDArray[np.integer]) -> NDArray[np.float64]:
    """Equal load on every container: D_j = S_j / sum S; rows without containers are zero.

    Args:
        ready: (n_microservices, n_hosts) containers that take requests.
    """
    counts = ready.astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0))


def carry_over(
    proportions: NDArray[np.float64], before: NDArray[np.integer], after: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Load proportions after containers came or went: the weight per container of a host stays.

    D_j becomes D_j * S'_j / S_j; a host that had no container gets the mean weight per container; rows are normalised,
    and a row without any weight becomes balanced.

    Args:
        proportions: (n_microservices, n_hosts) for the containers before.
        before: (n_microservices, n_hosts) containers that took requests.
        after: (n_microservices, n_hosts) containers that do now.
    """
    # Only cells (microservice, host) with containers matter: on thousands of hosts they are few.
    cells = np.flatnonzero((before > 0) | (after > 0))
    i, count = cells // before.shape[1], len(before)
    old, new = before.ravel()[cells], after.ravel()[cells]
    weight = np.divide(proportions.ravel()[cells], old, out=np.zeros(len(cells)), where=old > 0)
    stays = (old > 0) & (new > 0)
    containers = np.bincount(i, np.where(stays, new, 0), count)
    mean = np.bincount(i, np.where(stays, weight * new, 0.0), count)
    mean = np.divide(mean, containers, out=np.zeros(count), where=containers > 0)
    result = np.where(old > 0, weight, np.where(mean > 0.0, mean, 1.0)[i]) * new
    total = np.bincount(i, result, count)
    balanced = np.divide(new, np.bincount(i, new, count)[i], out=np.zeros(len(cells)), where=new > 0)
    carried = np.zeros(before.shape)
    carried.ravel()[cells] = np.divide(result, total[i], out=balanced, where=total[i] > 0.0)
    return carried


def project_proportions(
    proportions: NDArray[np.floating], ready: NDArray[np.integer]
) -> tuple[NDArray[np.float64], int]:
    """Make any array of the right shape a legal load proportion; also count the rows that had to be changed.

    The rule: NaN, infinite and negative entries and entries of hosts without a ready container become 0; a row is
    divided by its sum; a row without anything left becomes balanced. Rows that sum to 1 within 1e-6 and had no such
    entry are not counted.

    Raises:
        ValueError: the shape is not that of `ready`.
    """
    if proportions.shape != ready.shape:
        raise ValueError(f"proportions have shape {proportions.shape}, expected {ready.shape}")
    kind = np.float32 if proportions.dtype == FLOAT32 else np.float64
    legal = np.empty(ready.shape)
    changed: int = _project(np.ascontiguousarray(proportions, kind), ready, legal)
    return legal, changed


@compiled
def _project(raw: NDArray[np.floating], ready: NDArray[np.integer], legal: NDArray[np.float64]) -> int:
    """Overwrite `legal`; the number of changed rows."""
    n_rows, n_hosts = raw.shape
    changed = 0
    for i in range(n_rows):
        containers, repaired, peak = 0, False, 0.0
        for h in range(n_hosts):
            containers += ready[i, h]
            legal[i, h] = 0.0
            if ready[i, h] > 0 and 0.0 < raw[i, h] < np.inf:  # false for NaN
                legal[i, h] = raw[i, h]
                peak = max(peak, raw[i, h])
            elif raw[i, h] != 0.0:
                repaired = True
        changed += containers > 0 and (repaired or not abs(_sum(legal[i]) - 1.0) <= 1e-6)
        if peak > 0.0:  # a row of huge entries has no finite sum
            legal[i] /= peak
            legal[i] *= 1.0 / _sum(legal[i])
        elif containers > 0:
            for h in range(n_hosts):
                legal[i, h] = ready[i, h] / containers
    return changed


@compiled
def _sum(row: NDArray[np.float64]) -> float:
    """In the order of `np.sum`, up to 128 values: results do not depend on what is compiled."""
    total, whole = 0.0, len(row) - len(row) % 8
    if whole > 0:
        parts = row[:8].copy()
        for i in range(8, whole):
            parts[i % 8] += row[i]
        total = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]))
    for i in range(whole, len(row)):
        total += row[i]
    return total
