"""From load proportions and a connection plan to the tables that the compiled engine draws from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import ConnectionPlan
from imbres_gym.sim.balancing import WEIGHTED
from imbres_gym.sim.state import FREE, READY, Routes
from imbres_gym.telemetry import pair_share_shape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Routing:
    """Routes, and what follows from them.

    Attributes:
        routes: the tables.
        connections: (P,) open connections between ready containers.
        per_slot: (slots,) mean of a container's incoming and outgoing connections.
        pair_share: (P, H, H) share of a pair's traffic from host to host; (P, 0, 0) in a large cluster.
        links: sorted codes of all open connections, to count churn.
    """

    routes: Routes
    connections: Ints
    per_slot: Floats
    pair_share: Floats
    links: Ints


def count_ready(slots: NDArray[np.void], shape: tuple[int, ...], life: int = READY) -> Ints:
    """(M, H) containers in one stage of life."""
    alive = slots[slots["life"] == life]
    flat = alive["microservice"].astype(np.int64) * shape[1] + alive["host"]
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)


def build_routing(
    slots: NDArray[np.void],
    pairs: tuple[tuple[int, int], ...],
    proportions: Floats,
    ready: Ints,
    plan: ConnectionPlan,
) -> Routing:
    """Tables for the containers as they are.

    Args:
        slots: of dtype `imbres_gym.sim.state.SLOT`.
        pairs: (upstream, downstream) microservices.
        proportions: (M, H) legal load proportions.
        ready: (M, H) ready containers.
        plan: connection plan by container id.
    """
    n_microservices, n_hosts = proportions.shape
    weight = np.divide(proportions, ready, out=np.zeros_like(proportions), where=ready > 0)
    pools = [np.flatnonzero((slots["life"] == READY) & (slots["microservice"] == m)) for m in range(n_microservices)]
    pool_weight = [weight[m, slots["host"][pool]] for m, pool in enumerate(pools)]
    ends = np.cumsum([0, *(len(pool) for pool in pools)])
    targets, cdfs = list(pools), [np.cumsum(w) for w in pool_weight]
    low = np.zeros((len(pairs), len(slots)), np.int32)
    high = np.zeros((len(pairs), len(slots)), np.int32)
    connections = np.zeros(len(pairs), np.int64)
    degree = np.zeros(len(slots))
    share = np.zeros(pair_share_shape(len(pairs), n_hosts))
    codes: list[Ints] = []
    place = int(ends[-1])
    for p, (up, down) in enumerate(pairs):
        rows = _rows(slots, up, down, plan, p)
        linked = np.zeros(len(slots), np.bool_)
        if rows is not None:
            source, target, row_weight = _without_lost_links(*rows, pools[down], pool_weight[down])
            order = np.argsort(source, kind="stable")
            source, target, row_weight = source[order], target[order], row_weight[order]
            begin = np.searchsorted(source, np.arange(len(slots)), side="left")
            end = np.searchsorted(source, np.arange(len(slots)), side="right")
            low[p], high[p] = place + begin, place + end
            linked[source] = True
            targets.append(target)
            cdfs.append(_cumulative_rows(row_weight, begin, end))
            place += len(target)
            if share.size > 0:
                share[p] += _row_share(slots, pools[up], pool_weight[up], source, target, row_weight, n_hosts)
        else:
            source, target = np.zeros(0, np.int64), np.zeros(0, np.int64)
        free = pools[up][~linked[pools[up]]]  # these use the pool: fully connected
        if share.size > 0:
            free_weight = np.bincount(slots["host"][free], pool_weight[up][~linked[pools[up]]], n_hosts)
            share[p] += free_weight[:, None] * proportions[down][None, :]
        live = slots["life"][source] == READY
        source = np.concatenate([source[live], np.repeat(free, len(pools[down]))])
        target = np.concatenate([target[live], np.tile(pools[down], len(free))])
        connections[p] = len(source)
        degree += 0.5 * (np.bincount(source, minlength=len(slots)) + np.bincount(target, minlength=len(slots)))
        codes.append(slots["id"][source] << 32 | slots["id"][target])
    return Routing(
        routes=Routes(
            low=low,
            high=high,
            pool_low=ends[:-1].astype(np.int32),
            pool_high=ends[1:].astype(np.int32),
            target=np.concatenate(targets).astype(np.uint32),
            cdf=np.concatenate(cdfs).astype(np.float64),
            balancer=WEIGHTED,
            client=np.zeros((0, 0), np.int32),
        ),
        connections=connections,
        per_slot=degree,
        pair_share=share,
        links=np.sort(np.concatenate(codes)) if codes else np.zeros(0, np.int64),
    )


def _rows(
    slots: NDArray[np.void], up: int, down: int, plan: ConnectionPlan, pair: int
) -> tuple[Ints, Ints, Floats, Floats] | None:
    """The links of a pair whose containers live, and what was lost with those that do not; None if not planned.

    Returns:
        upstream slot, downstream slot and weight of each link, and (slots,) the weight of an upstream container's links
        to containers that no longer take requests.
    """
    links = plan.links.get(pair)
    if links is None:
        return None
    living = np.flatnonzero(slots["life"] != FREE)
    living = living[np.argsort(slots["id"][living])]
    ids = slots["id"][living]
    if len(ids) == 0:
        return None
    source = living[np.minimum(np.searchsorted(ids, links.upstream), len(ids) - 1)]
    target = living[np.minimum(np.searchsorted(ids, links.downstream), len(ids) - 1)]
    known = (slots["id"][source] == links.upstream) & (slots["microservice"][source] == up) & (links.weight > 0.0)
    keep = (
        known
        & (slots["id"][target] == links.downstream)
        & (slots["microservice"][target] == down)
        & (slots["life"][target] == READY)
    )
    gone = known & ~keep
    lost = np.bincount(source[gone], links.weight[gone], len(slots)).astype(np.float64)
    return source[keep], target[keep], links.weight[keep], lost


def _without_lost_links(
    source: Ints, target: Ints, weight: Floats, lost: Floats, pool: NDArray[np.intp], pool_weight: Floats
) -> tuple[Ints, Ints, Floats]:
    """The links of a pair, where calls that were planned for containers that are gone go to the pool instead.

    Without this, the other links of the same caller would get them: twice the load on a container whose neighbour was
    removed, up to the next plan. Callers without any link left are not here: they use the pool for all calls.

    Args:
        source: (n,) upstream slot of each link that works.
        target: (n,) its downstream slot.
        weight: (n,) its share of the caller's calls.
        lost: (slots,) weight of a caller's links that do not.
        pool: downstream slots that take requests.
        pool_weight: their weights by the load proportions; they sum to 1, or to 0 where nothing takes requests.
    """
    callers = np.unique(source[lost[source] > 0.0])
    if len(callers) == 0:
        return source, target, weight
    source = np.concatenate([source, np.repeat(callers, len(pool))])
    target = np.concatenate([target, np.tile(pool, len(callers))])
    weight = np.concatenate([weight, np.outer(lost[callers], pool_weight).ravel()])
    links, place = np.unique(source * (len(lost) + 1) + target, return_inverse=True)
    return links // (len(lost) + 1), links % (len(lost) + 1), np.bincount(place, weight).astype(np.float64)


def _cumulative_rows(weight: Floats, begin: Ints, end: Ints) -> Floats:
    """Cumulative weights that start anew in each row `begin[i]:end[i]`."""
    total = np.concatenate([[0.0], np.cumsum(weight)])
    offset = np.repeat(total[begin], end - begin)
    return np.asarray(total[1:] - offset)


def _row_share(
    slots: NDArray[np.void],
    pool: NDArray[np.intp],
    pool_weight: Floats,
    source: Ints,
    target: Ints,
    weight: Floats,
    n_hosts: int,
) -> Floats:
    """(H, H) traffic of the planned rows: an upstream container's load, split by its weights."""
    load = np.zeros(len(slots))
    load[pool] = pool_weight
    row_sum = np.bincount(source, weight, len(slots))
    traffic = load[source] * weight / row_sum[source]
    flat = slots["host"][source].astype(np.int64) * n_hosts + slots["host"][target]
    return np.bincount(flat, traffic, n_hosts * n_hosts).reshape(n_hosts, n_hosts).astype(np.float64)
