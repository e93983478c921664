"""From a plan to the weights of every pair of containers, and bounded steps from one plan to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import ConnectionPlan, Links
from imbres_gym.telemetry import pair_share_shape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Table:
    """The containers that take requests.

    Attributes:
        id: (N,) container ids, rising.
        microservice, host: (N,) indices.
        shape: (M, H).
    """

    id: Ints
    microservice: Ints
    host: Ints
    shape: tuple[int, int]

    def counts(self) -> Ints:
        """(M, H) containers."""
        counts = np.zeros(self.shape, np.int64)
        np.add.at(counts, (self.microservice, self.host), 1)
        return counts


@dataclass(frozen=True, eq=False)
class Rows:
    """Who calls whom in one pair of microservices.

    Attributes:
        upstream: (U,) container ids.
        downstream: (D,) container ids.
        weight: (U, D) share of an upstream container's calls [0-1]; each row sums to 1.
        planned: (U,) whether the plan names links of the container; if not, it calls all by the load proportions.
    """

    upstream: Ints
    downstream: Ints
    weight: Floats
    planned: NDArray[np.bool_]

    @property
    def share(self) -> Floats:
        """(D,) share of the pair's calls that each downstream container gets, if upstream containers call alike."""
        return np.asarray(self.weight.mean(axis=0))


def build_rows(
    plan: ConnectionPlan, proportions: Floats, table: Table, pairs: tuple[tuple[int, int], ...]
) -> dict[int, Rows]:
    """Weights of every pair where both sides have containers, by the rules of `imbres_gym.plan.ConnectionPlan`.

    Args:
        plan: links of containers that are gone are allowed: their share is spread by the load proportions.
        proportions: (M, H); a row of zeros counts as balanced.
        table: the containers that take requests.
        pairs: (upstream, downstream) microservices.
    """
    rows: dict[int, Rows] = {}
    counts = table.counts()
    for pair, (up, down) in enumerate(pairs):
        upstream, downstream = table.id[table.microservice == up], table.microservice == down
        if len(upstream) == 0 or not downstream.any():
            continue
        hosts = table.host[downstream]
        pool = proportions[down, hosts] / counts[down, hosts]
        pool = pool / pool.sum() if pool.sum() > 0.0 else np.full(len(hosts), 1.0 / len(hosts))
        rows[pair] = _rows_of(plan.links.get(pair), upstream, table.id[downstream], pool)
    return rows


def _rows_of(links: Links | None, upstream: Ints, downstream: Ints, pool: Floats) -> Rows:
    weight = np.zeros((len(upstream), len(downstream)))
    lost = np.zeros(len(upstream))
    if links is not None and len(links):
        row, is_up = _places(upstream, links.upstream)
        column, is_down = _places(downstream, links.downstream)
        kept = is_up & is_down
        np.add.at(weight, (row[kept], column[kept]), links.weight[kept])
        gone = is_up & ~is_down
        np.add.at(lost, row[gone], links.weight[gone])
    planned = weight.sum(axis=1) > 0.0
    weight += np.outer(np.where(planned, lost, 1.0), pool)
    weight[~planned] = pool
    return Rows(upstream, downstream, weight / weight.sum(axis=1, keepdims=True), planned)


def _places(sorted_ids: Ints, wanted: Ints) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Place of each wanted id, and whether it is there at all."""
    place = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return place, sorted_ids[place] == wanted


def step_shares(before: Mapping[int, Rows], wanted: Mapping[int, Rows], most: float) -> dict[int, float]:
    """How far each pair may go from one set of rows to another of the same containers [0-1].

    Args:
        before: rows in force.
        wanted: rows of the same containers.
        most: share of a pair's calls that may move from container to container.
    """
    shares: dict[int, float] = {}
    for pair, rows in wanted.items():
        moved = 0.5 * float(np.abs(rows.share - before[pair].share).sum())
        shares[pair] = 1.0 if moved <= most else most / moved
    return shares


def blended(before: Rows, wanted: Rows, share: float) -> Rows:
    """Rows that lie between two of the same containers."""
    weight = before.weight + share * (wanted.weight - before.weight)
    return Rows(wanted.upstream, wanted.downstream, weight, wanted.planned | before.planned | (share < 1.0))


def as_links(rows: Rows) -> Links:
    """Every positive weight as a link."""
    up, down = np.nonzero(rows.weight > 0.0)
    return Links(rows.upstream[up], rows.downstream[down], rows.weight[up, down])


def connection_counts(rows: Mapping[int, Rows], pairs: int) -> Ints:
    """(P,) connections of each pair: links with a weight."""
    counts = np.zeros(pairs, np.int64)
    for pair, of_pair in rows.items():
        counts[pair] = np.count_nonzero(of_pair.weight)
    return counts


def connection_codes(rows: Mapping[int, Rows]) -> Ints:
    """A number for each connection, to count those opened and closed."""
    codes = []
    for of_pair in rows.values():
        up, down = np.nonzero(of_pair.weight)
        codes.append(of_pair.upstream[up] << 32 | of_pair.downstream[down])
    return np.unique(np.concatenate(codes)) if codes else np.zeros(0, np.int64)


def pair_share(rows: Mapping[int, Rows], table: Table, proportions: Floats, pairs: int) -> Floats:
    """(P, H, H) share of a pair's calls from host to host, as `Telemetry.pair_share`.

    Args:
        rows: of the containers in the table.
        table: the containers.
        proportions: (M, H) load of the upstream containers.
        pairs: how many pairs there are.
    """
    hosts = table.shape[1]
    share = np.zeros(pair_share_shape(pairs, hosts))
    if share.size == 0:
        return share
    counts = table.counts()
    for pair, of_pair in rows.items():
        up, down = (_places(table.id, ids)[0] for ids in (of_pair.upstream, of_pair.downstream))
        m, h = table.microservice[up], table.host[up]
        load = proportions[m, h] / counts[m, h]
        load = load / load.sum() if load.sum() > 0.0 else np.full(len(up), 1.0 / len(up))
        flat = table.host[up][:, None] * hosts + table.host[down][None, :]
        traffic = load[:, None] * of_pair.weight
        share[pair] = np.bincount(flat.ravel(), traffic.ravel(), hosts * hosts).reshape(hosts, hosts)
    return share
