"""Who the clients of a balancer are, and what becomes of what they know when containers come and go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import Balancer
from imbres_gym.sim.balancing import BALANCERS, Balancing, new_balancing
from imbres_gym.sim.state import FREE, NOW, Routes, State

Ints = NDArray[np.int64]

_GONE = -1


@dataclass(frozen=True)
class Directory:
    """Names of clients and links, which stay when their places in the arrays change.

    Attributes:
        clients: (clients,) code of its group (a pair or an entry) and of its container.
        client_of: (links,) client of each link.
        containers: (links,) id of the downstream container.
        slots: (links,) its slot.
    """

    clients: Ints
    client_of: Ints
    containers: Ints
    slots: Ints


NO_CLIENTS = Directory(*(np.zeros(0, np.int64) for _ in range(4)))


def connect(
    routes: Routes, slots: NDArray[np.void], pairs: tuple[tuple[int, int], ...], balancer: Balancer
) -> tuple[Routes, Directory]:
    """Give every client links of its own.

    Clients are one gateway for each microservice (only those of entries are used), then for every pair the containers
    of its upstream microservice. Where the routes send a container to the pool, it gets a link to each container there.

    Args:
        routes: of `imbres_gym.sim.routing`.
        slots: of dtype `imbres_gym.sim.state.SLOT`.
        pairs: (upstream, downstream) microservices.
        balancer: what they use.
    """
    low, high = routes.low.copy(), routes.high.copy()
    client = np.full((len(pairs), len(slots)), _GONE, np.int32)
    targets = [routes.target]
    begins, ends = [routes.pool_low], [routes.pool_high]
    names = [(len(pairs) + np.arange(len(routes.pool_low), dtype=np.int64)) << 32]
    place, n_clients = len(routes.target), len(routes.pool_low)
    for p, (up, down) in enumerate(pairs):
        callers = np.flatnonzero((slots["life"] != FREE) & (slots["microservice"] == up))
        pool = routes.target[routes.pool_low[down] : routes.pool_high[down]]
        free = callers[low[p, callers] == high[p, callers]]
        low[p, free] = place + len(pool) * np.arange(len(free))
        high[p, free] = low[p, free] + len(pool)
        targets.append(np.tile(pool, len(free)))
        place += len(pool) * len(free)
        client[p, callers] = n_clients + np.arange(len(callers))
        n_clients += len(callers)
        begins.append(low[p, callers])
        ends.append(high[p, callers])
        names.append(p << 32 | slots["id"][callers])
    target = np.concatenate(targets)
    begin, end = np.concatenate(begins).astype(np.int64), np.concatenate(ends).astype(np.int64)
    client_of = np.zeros(len(target), np.int64)
    width = end - begin
    before = np.cumsum(width) - width
    links = np.repeat(begin - before, width) + np.arange(int(width.sum()))
    client_of[links] = np.repeat(np.arange(n_clients), width)
    of_slot = target.astype(np.int64)
    directory = Directory(np.concatenate(names), client_of, slots["id"][of_slot], of_slot)
    balanced = routes._replace(low=low, high=high, target=target, client=client, balancer=BALANCERS.index(balancer))
    return balanced, directory


def carry_over_clients(state: State, old: Directory, new: Directory) -> Balancing:
    """What clients know about links that there still are; calls in flight and probes follow their links."""
    before = state.balancing
    after = new_balancing(len(new.client_of), len(new.clients), len(state.spans), len(state.slots))
    after.links["updated"] = state.clock[NOW]
    if len(old.clients) == 0:
        return after
    client = _places(old.clients, new.clients)
    link = _places(
        old.client_of << 32 | old.containers,
        np.where(client[new.client_of] >= 0, client[new.client_of] << 32 | new.containers, _GONE),
    )
    kept = client >= 0
    for name in ("clients", "pool", "travelling", "rifs", "rif_counts"):
        getattr(after, name)[kept] = getattr(before, name)[client[kept]]
    after.links[link >= 0] = before.links[link[link >= 0]]
    moved = np.full(len(old.client_of) + 1, _GONE, np.int32)  # the last place is that of what is gone
    moved[link[link >= 0]] = np.flatnonzero(link >= 0)
    for probes in (after.pool, after.travelling):
        probes["link"] = moved[probes["link"]]
    calls = before.calls.copy()
    calls["link"] = moved[calls["link"]]
    return after._replace(
        calls=calls, served=before.served, latencies=before.latencies, latency_counts=before.latency_counts
    )


def _places(old: Ints, new: Ints) -> Ints:
    """Place of each name of `new` in `old`, -1 where it is not there."""
    if len(old) == 0:
        return np.full(len(new), _GONE)
    order = np.argsort(old, kind="stable")
    place = order[np.minimum(np.searchsorted(old, new, sorter=order), len(old) - 1)]
    return np.where(old[place] == new, place, _GONE)
