"""A connection plan as an action: a graph whose nodes are rows of the observation's container table."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import GraphInstance
from numpy.typing import NDArray

from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan, Links


def encode_connections(plan: ConnectionPlan, observation: Observation) -> GraphInstance:
    """The plan as a graph: `edge_links` (E, 2) rows (upstream, downstream), `edges` (E, 1) weights in [0, 1].

    Links of containers that are not in the table are left out. A pair without links stays fully connected.
    """
    table = observation["containers"]
    ids = table[:, 0]
    order = np.argsort(ids, kind="stable")
    sources: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float64]] = []
    for links in plan.links.values():
        up, up_found = _rows_of(links.upstream, ids, order)
        down, down_found = _rows_of(links.downstream, ids, order)
        keep = up_found & down_found
        sources.append(up[keep])
        targets.append(down[keep])
        weights.append(links.weight[keep])
    nodes = np.zeros(max(1, int((ids >= 0).sum())), np.int64)
    if not sources:
        return GraphInstance(nodes=nodes, edges=None, edge_links=None)
    weight = np.clip(np.concatenate(weights), 0.0, 1.0).astype(np.float32)[:, None]
    return GraphInstance(
        nodes=nodes, edges=weight, edge_links=np.stack([np.concatenate(sources), np.concatenate(targets)], 1)
    )


def decode_connections(
    graph: GraphInstance, observation: Observation, pairs: tuple[tuple[int, int], ...]
) -> tuple[ConnectionPlan, int]:
    """The plan that a graph means, and how many of its edges were illegal and left out.

    An edge is illegal if a row is out of range or unused, the two microservices are no pair, or its weight is NaN,
    infinite or negative.
    """
    if graph.edge_links is None or graph.edges is None or len(graph.edge_links) == 0:
        return ConnectionPlan(), 0
    table = observation["containers"]
    links = np.asarray(graph.edge_links, np.int64)
    weight = np.asarray(graph.edges, np.float64).reshape(len(links), -1)[:, 0]
    inside = np.all((links >= 0) & (links < len(table)), axis=1)
    rows = np.where(inside[:, None], links, 0)
    up, down = table[rows[:, 0]], table[rows[:, 1]]
    n_microservices = observation["own_latency_ms"].shape[0]
    pair_of = np.full((n_microservices, n_microservices), -1, np.int64)
    for index, (upstream, downstream) in enumerate(pairs):
        pair_of[upstream, downstream] = index
    used = inside & (up[:, 0] >= 0) & (down[:, 0] >= 0)
    pair = np.where(used, pair_of[np.maximum(up[:, 1], 0), np.maximum(down[:, 1], 0)], -1)
    legal = (pair >= 0) & np.isfinite(weight) & (weight >= 0.0)
    plan: dict[int, Links] = {}
    for index in np.unique(pair[legal]):
        of_pair = legal & (pair == index)
        plan[int(index)] = Links(up[of_pair, 0].copy(), down[of_pair, 0].copy(), weight[of_pair].copy())
    return ConnectionPlan(plan), int((~legal).sum())


def _rows_of(
    wanted: NDArray[np.int64], ids: NDArray[np.int64], order: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Row of each wanted id in the table, and whether it is there."""
    position = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    rows = order[position].astype(np.int64)
    return rows, ids[rows] == wanted
