"""A connection plan as an action: a graph whose nodes are rows of the observation's container table."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import GraphInstance

from imbres_gym.container_rows import ContainerRows
from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan, Links


def encode_connections(plan: ConnectionPlan, observation: Observation) -> GraphInstance:
    """The plan as a graph: `edge_links` (E, 2) rows (upstream, downstream), `edges` (E, 1) weights in [0, 1].

    Links of containers that are not in the table are left out. A pair without links stays fully connected.
    """
    ids = observation["containers"][:, 0]
    nodes = np.zeros(max(1, int((ids >= 0).sum())), np.int64)
    if not plan.links:
        return GraphInstance(nodes=nodes, edges=None, edge_links=None)
    links = plan.links.values()
    rows = ContainerRows(ids)
    up = rows.find(np.concatenate([of_pair.upstream for of_pair in links]))
    down = rows.find(np.concatenate([of_pair.downstream for of_pair in links]))
    weight = np.concatenate([of_pair.weight for of_pair in links])
    edge_links = np.stack([up, down], axis=1)
    edges = np.clip(weight, 0.0, 1.0).astype(np.float32)[:, None]
    known = (up >= 0) & (down >= 0)
    if not known.all():
        edge_links, edges = edge_links[known], edges[known]
    return GraphInstance(nodes=nodes, edges=edges, edge_links=edge_links)


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
    # Sorted by pair once; the edges of a pair keep their order.
    order = np.flatnonzero(legal)
    order = order[np.argsort(pair[order], kind="stable")]
    starts = np.flatnonzero(np.diff(pair[order], prepend=-1))
    upstream, downstream, weight = up[order, 0], down[order, 0], weight[order]
    plan: dict[int, Links] = {}
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=False):
        of_pair = slice(start, end)
        plan[int(pair[order[start]])] = Links(upstream[of_pair], downstream[of_pair], weight[of_pair])
    return ConnectionPlan(plan), int((~legal).sum())
