"""The containers that take requests as flat arrays, and whom each of them calls: what the compiled engine reads."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import ConnectionPlan
from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.fluid.compiled import allocating
from imbres_gym.sim.state import DRAINING, GONE, PENDING, READY

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Fleet(NamedTuple):
    """The n ready containers, microservice by microservice, those of one in the order of hosts and ids."""

    begin: Ints  # (M + 1,) range of each microservice
    slot: Ints  # (n,) place in the table of all containers
    id: Ints
    microservice: Ints
    host: Ints
    place_of_id: Ints  # place of a container by its id, -1 where there is none
    cell: Ints  # (n,) occupied pair of microservice and host: those of a microservice follow each other
    cell_place: Ints  # (cells,) its place in an (M, H) array, flat
    cell_host: Ints  # (cells,)
    cell_begin: Ints  # (M + 1,) range of cells of each microservice
    kind_begin: Ints  # (K + 1,) a kind has one value per container of its microservice, in flat arrays


class Rows(NamedTuple):
    """Links of each pair and upstream container, as a compressed sparse matrix.

    The row of pair p and the i-th container of its upstream microservice is `row = pair[p] + i`: it sends the share
    `weight[link]` of its calls to `target[link]`, for the links `begin[row]:begin[row + 1]`, and the share
    `spread[row]` to all ready containers by the load proportions: 1 without links (full connection).
    """

    pair: Ints  # (P + 1,)
    begin: Ints  # (rows + 1,)
    target: Ints  # (links,) place in the fleet
    weight: Floats
    spread: Floats  # (rows,)


@allocating
def survey(slots, wanted):
    """What becomes of a table of containers by itself; those that have drained are gone from now on.

    Returns:
        By how many those that take requests or will differ from those that are wanted (M,), and the time at which the
        first that starts does [ms], infinite without one.
    """
    alive, first = 0, np.inf
    for i in range(len(slots)):
        life = slots[i].life
        if life == READY:
            alive += 1
        elif life == PENDING:
            alive += 1
            first = min(first, slots[i].ready_at)
        elif life == DRAINING and slots[i].excess <= 0.0:
            slots[i].life = GONE
    return alive - wanted.sum(), first


def pool_weights(fleet: Fleet, proportions: Floats, ready: Ints) -> Floats:
    """(n,) share of a microservice's load that a container gets by the load proportions (M, H)."""
    weight = np.empty(len(fleet.id))
    _share_of_host(fleet.cell, fleet.cell_place, proportions.ravel(), ready.ravel(), weight)
    return weight


@allocating
def _share_of_host(cell, cell_place, proportions, ready, weight):
    for i in range(len(weight)):
        place = cell_place[cell[i]]
        weight[i] = proportions[place] / ready[place]


def muster(slots: NDArray[np.void], shape: tuple[int, int], members: Ints, of_microservice: Ints) -> Fleet:
    """The ready containers of a table of containers.

    Args:
        slots: records with id, life, microservice and host.
        shape: (M, H).
        members: kinds, microservice by microservice, see `imbres_gym.sim.fluid.kinds`.
        of_microservice: (M + 1,) range of each microservice in it.
    """
    ready = np.flatnonzero(slots["life"] == READY)
    ready = ready[np.lexsort((slots["id"][ready], slots["host"][ready], slots["microservice"][ready]))]
    ids = slots["id"][ready]
    microservice = slots["microservice"][ready].astype(np.int64)
    place = np.full(int(slots["id"].max(initial=-1)) + 1, -1)
    place[ids] = np.arange(len(ids))
    host = slots["host"][ready].astype(np.int64)
    cell_place, cell = np.unique(microservice * shape[1] + host, return_inverse=True)
    everyone = np.arange(shape[0] + 1)
    begin = np.searchsorted(microservice, everyone)
    per_kind = np.zeros(len(members), np.int64)
    per_kind[members] = np.repeat(np.diff(begin), np.diff(of_microservice))
    return Fleet(
        begin=begin,
        slot=ready,
        id=ids,
        microservice=microservice,
        host=host,
        place_of_id=place,
        cell=cell,
        cell_place=cell_place,
        cell_host=cell_place % shape[1],
        cell_begin=np.searchsorted(cell_place, everyone * shape[1]),
        kind_begin=np.concatenate([[0], np.cumsum(per_kind)]),
    )


def connect(fleet: Fleet, up: Ints, down: Ints, plan: ConnectionPlan) -> Rows:
    """The rows of a connection plan for the containers that are ready; what a plan has of others is left out.

    Args:
        fleet: the containers.
        up: (P,) upstream microservice of each pair.
        down: (P,) downstream microservice.
        plan: the connections.
    """
    planned = [plan.links.get(p) for p in range(len(up))]
    sizes = [0 if links is None else len(links) for links in planned]
    some = [links for links in planned if links is not None]
    empty = np.zeros(0, np.int64)
    rows: Rows = _rows(
        fleet,
        np.concatenate([[0], np.cumsum(np.diff(fleet.begin)[up])]),
        up,
        down,
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([empty, *(links.upstream for links in some)]),
        np.concatenate([empty, *(links.downstream for links in some)]),
        np.concatenate([empty.astype(np.float64), *(links.weight for links in some)]),
    )
    return rows


@allocating
def _rows(fleet, pair, up, down, link, upstream, downstream, weight):
    """Sort the links of every pair into rows; the share of links to what is gone is spread (`Rows.spread`)."""
    n_rows = pair[-1]
    begin = np.zeros(n_rows + 1, np.int64)
    total = np.zeros(n_rows)
    lost = np.zeros(n_rows)
    row_of = np.full(len(weight), -1)
    goal = np.full(len(weight), -1)
    for p in range(len(up)):
        low, high = fleet.begin[up[p]], fleet.begin[up[p] + 1]
        first, last = fleet.begin[down[p]], fleet.begin[down[p] + 1]
        for x in range(link[p], link[p + 1]):
            source, target = _place(fleet.place_of_id, upstream[x]), _place(fleet.place_of_id, downstream[x])
            if weight[x] <= 0.0 or not low <= source < high:
                continue
            row = pair[p] + source - low
            total[row] += weight[x]
            if first <= target < last:
                row_of[x] = row
                goal[x] = target
                begin[row + 1] += 1
            else:
                lost[row] += weight[x]
    begin = np.cumsum(begin)
    spread = np.ones(n_rows)
    for row in range(n_rows):
        if begin[row] < begin[row + 1]:
            spread[row] = lost[row] / total[row]
    target = np.zeros(begin[-1], np.int64)
    share = np.zeros(begin[-1])
    filled = begin.copy()
    for x in range(len(weight)):
        if row_of[x] >= 0:
            place = filled[row_of[x]]
            filled[row_of[x]] += 1
            target[place] = goal[x]
            share[place] = weight[x] / total[row_of[x]]
    return Rows(pair, begin, target, share, spread)


@inlined
def _place(place_of_id, container):
    """Place of a container in the fleet, -1 if it is not ready."""
    return place_of_id[container] if 0 <= container < len(place_of_id) else -1


@allocating
def open_connections(fleet, rows, up, down):
    """Open connections of each pair (P,), and of each container the mean of its incoming and outgoing ones (n,)."""
    connections = np.zeros(len(up), np.int64)
    degree = np.zeros(len(fleet.id))
    for p in range(len(up)):
        low, first, last = fleet.begin[up[p]], fleet.begin[down[p]], fleet.begin[down[p] + 1]
        to_all = 0
        for row in range(rows.pair[p], rows.pair[p + 1]):
            if rows.spread[row] > 0.0:
                n = last - first
                to_all += 1
            else:
                n = rows.begin[row + 1] - rows.begin[row]
                for x in range(rows.begin[row], rows.begin[row + 1]):
                    degree[rows.target[x]] += 0.5
            degree[low + row - rows.pair[p]] += 0.5 * n
            connections[p] += n
        for target in range(first, last):
            degree[target] += 0.5 * to_all
    return connections, degree


@allocating
def changed_connections(old, old_rows, new, new_rows, up, down):
    """Connections opened and closed between two states of affairs."""
    seen = np.full(len(new.place_of_id), -1)  # row in which a container was last seen among the new targets
    changed = 0
    for p in range(len(up)):
        common_targets = 0
        for j in range(old.begin[down[p]], old.begin[down[p] + 1]):
            common_targets += _place(new.place_of_id, old.id[j]) >= 0
        kept = 0
        low, high = old.begin[up[p]], old.begin[up[p] + 1]
        for i in range(low, high):
            row = old_rows.pair[p] + i - low
            there = _place(new.place_of_id, old.id[i])
            all_before = old_rows.spread[row] > 0.0
            changed += old.begin[down[p] + 1] - old.begin[down[p]] if all_before else _links(old_rows.begin, row)
            if there < 0:
                continue
            next_row = new_rows.pair[p] + there - new.begin[up[p]]
            all_after = new_rows.spread[next_row] > 0.0
            if all_before and all_after:
                kept += common_targets
            elif all_after:
                for x in range(old_rows.begin[row], old_rows.begin[row + 1]):
                    kept += _place(new.place_of_id, old.id[old_rows.target[x]]) >= 0
            else:
                for x in range(new_rows.begin[next_row], new_rows.begin[next_row + 1]):
                    container = new.id[new_rows.target[x]]
                    seen[container] = next_row
                    kept += all_before and _place(old.place_of_id, container) >= 0
                if not all_before:
                    for x in range(old_rows.begin[row], old_rows.begin[row + 1]):
                        container = old.id[old_rows.target[x]]
                        kept += container < len(seen) and seen[container] == next_row
        for row in range(new_rows.pair[p], new_rows.pair[p + 1]):
            to_all = new_rows.spread[row] > 0.0
            changed += new.begin[down[p] + 1] - new.begin[down[p]] if to_all else _links(new_rows.begin, row)
        changed -= 2 * kept
    return changed


@inlined
def _links(begin, row):
    return begin[row + 1] - begin[row]


@allocating
def shares_between_hosts(fleet, rows, up, down, pool_weight, share):
    """Share of a pair's traffic from host to host, as planned: (P, H, H) is overwritten, (P, 0, 0) is left out."""
    n_hosts = share.shape[1]
    if n_hosts == 0:
        return
    # Of each microservice, the share of its load that a host gets by the load proportions.
    pool = np.zeros((len(fleet.begin) - 1, n_hosts))
    for i in range(len(pool_weight)):
        pool[fleet.microservice[i], fleet.host[i]] += pool_weight[i]
    spread = np.zeros(n_hosts)
    for p in range(len(up)):
        low, first, last = fleet.begin[up[p]], rows.pair[p], rows.pair[p + 1]
        share[p] = 0.0
        if rows.begin[first] == rows.begin[last]:  # no links
            spread[:] = pool[up[p]]
        else:
            spread[:] = 0.0
            for row in range(first, last):
                i = low + row - first
                spread[fleet.host[i]] += pool_weight[i] * rows.spread[row]
                for x in range(rows.begin[row], rows.begin[row + 1]):
                    share[p, fleet.host[i], fleet.host[rows.target[x]]] += pool_weight[i] * rows.weight[x]
        for host in range(n_hosts):
            for other in range(n_hosts):
                share[p, host, other] += spread[host] * pool[down[p], other]
