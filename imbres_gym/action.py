"""A connection plan as an action: a graph whose nodes are rows of the observation's container table."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import GraphInstance
from numpy.typing import NDArray

from imbres_gym.container_rows import ContainerRows
from imbres_gym.jit import compiled
from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan, Links

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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
    links = np.ascontiguousarray(graph.edge_links, np.int64)
    weight = np.asarray(graph.edges, np.float64).reshape(len(links), -1)[:, 0]
    ids, microservice = observation["containers"][:, 0].copy(), observation["containers"][:, 1].copy()
    n_microservices = observation["own_latency_ms"].shape[0]
    pair_of = np.full((n_microservices, n_microservices), -1, np.int64)
    for index, (upstream, downstream) in enumerate(pairs):
        pair_of[upstream, downstream] = index
    end, up, down, share = _by_pair(links, np.ascontiguousarray(weight), ids, microservice, pair_of, len(pairs))
    plan: dict[int, Links] = {}
    start = 0
    for pair, stop in enumerate(end.tolist()):
        if stop > start:
            plan[pair] = Links(up[start:stop], down[start:stop], share[start:stop])
        start = stop
    return ConnectionPlan(plan), len(links) - len(up)


@compiled
def _by_pair(
    links: Ints, weight: Floats, ids: Ints, microservice: Ints, pair_of: Ints, n_pairs: int
) -> tuple[Ints, Ints, Ints, Floats]:
    """The legal edges sorted by pair; those of a pair keep their order.

    Args:
        links: (E, 2) rows of the container table.
        weight: (E,) weights.
        ids: (N,) container of each row, -1 where it is unused.
        microservice: (N,) its microservice.
        pair_of: (M, M) pair of two microservices, -1 where there is none.
        n_pairs: how many there are.

    Returns:
        (n_pairs,) end of each pair among the legal edges; upstream container, downstream one and weight of these.
    """
    pair = np.full(len(links), -1, np.int64)
    place = np.zeros(n_pairs + 1, np.int64)  # at first, behind each pair, how many edges it has
    for edge in range(len(links)):
        up, down = links[edge, 0], links[edge, 1]
        inside = 0 <= up < len(ids) and 0 <= down < len(ids)
        if inside and ids[up] >= 0 and ids[down] >= 0 and 0.0 <= weight[edge] < np.inf:  # false for NaN
            of_edge = pair_of[microservice[up], microservice[down]]
            if of_edge >= 0:
                pair[edge] = of_edge
                place[of_edge + 1] += 1
    for index in range(n_pairs):
        place[index + 1] += place[index]
    legal = place[n_pairs]
    upstream, downstream = np.empty(legal, np.int64), np.empty(legal, np.int64)
    share = np.empty(legal)
    for edge in range(len(links)):
        if pair[edge] >= 0:
            here = place[pair[edge]]
            place[pair[edge]] += 1
            upstream[here], downstream[here] = ids[links[edge, 0]], ids[links[edge, 1]]
            share[here] = weight[edge]
    return place[:n_pairs], upstream, downstream, share
