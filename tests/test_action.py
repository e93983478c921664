"""A connection plan as a graph and back: what becomes of every link and every edge."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import GraphInstance
from hypothesis import given, settings
from hypothesis import strategies as st

from imbres_gym.action import decode_connections, encode_connections
from imbres_gym.container_rows import ContainerRows
from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan, Links

PAIRS = ((0, 1), (1, 2), (0, 2))
MICROSERVICES = 3

identities = st.one_of(st.integers(0, 30), st.integers(0, 2**62))


def observe(ids: list[int]) -> Observation:
    """A table of containers of microservices 0, 1, 2, 0, ...; a row of an id below 0 is unused."""
    table = np.array([[i, row % MICROSERVICES, 0, 1] if i >= 0 else [-1] * 4 for row, i in enumerate(ids)])
    return {"containers": table, "own_latency_ms": np.zeros((MICROSERVICES, 1), np.float32)}


tables = st.lists(st.one_of(identities, st.just(-1)), min_size=1, max_size=20).map(
    lambda ids: [i for place, i in enumerate(ids) if i < 0 or i not in ids[:place]]
)


@settings(deadline=None)
@given(st.lists(identities, unique=True, max_size=50), st.lists(st.one_of(identities, st.just(-1)), max_size=50))
def test_rows_are_found(ids: list[int], wanted: list[int]) -> None:
    rows = ContainerRows(np.array([*ids, -1], np.int64)).find(np.array([*wanted, *ids], np.int64))
    assert rows.tolist() == [ids.index(i) if i in ids else -1 for i in [*wanted, *ids]]


@settings(deadline=None)
@given(st.data())
def test_a_graph_has_the_links_of_known_containers(data: st.DataObject) -> None:
    ids = data.draw(tables)
    some = st.lists(st.tuples(st.one_of(st.sampled_from(ids), identities), identities, st.floats(0.0, 2.0)), max_size=9)
    given_links = {pair: data.draw(some) for pair in data.draw(st.permutations(range(3)))}
    plan = ConnectionPlan(
        {
            pair: Links(*(np.array([link[k] for link in links], kind) for k, kind in enumerate((int, int, float))))
            for pair, links in given_links.items()
        }
    )
    graph = encode_connections(plan, observe(ids))
    expected = [
        ([ids.index(u), ids.index(d)], np.float32(min(weight, 1.0)))
        for links in given_links.values()
        for u, d, weight in links
        if u >= 0 and u in ids and d in ids
    ]
    assert graph.edge_links is not None
    assert graph.edges is not None
    assert graph.edge_links.tolist() == [edge for edge, _ in expected]
    assert graph.edges[:, 0].tolist() == [weight for _, weight in expected]


def test_a_plan_without_links_has_no_edges() -> None:
    assert encode_connections(ConnectionPlan(), observe([3, 4])).edge_links is None


@settings(deadline=None)
@given(st.data())
def test_a_plan_has_the_legal_edges_in_their_order(data: st.DataObject) -> None:
    ids = data.draw(tables)
    row = st.integers(-2, len(ids) + 1)
    weight = st.one_of(st.floats(0.0, 1.0, width=32), st.sampled_from([-1.0, np.nan, np.inf]))
    edges = data.draw(st.lists(st.tuples(row, row, weight), min_size=1, max_size=30))
    graph = GraphInstance(
        nodes=np.zeros(1, np.int64),
        edges=np.array([[edge[2]] for edge in edges], np.float32),
        edge_links=np.array([edge[:2] for edge in edges]),
    )
    plan, illegal = decode_connections(graph, observe(ids), PAIRS)
    expected: dict[int, list[Any]] = {}
    for up, down, share in edges:
        used = 0 <= up < len(ids) and 0 <= down < len(ids) and ids[up] >= 0 and ids[down] >= 0
        pair = (up % MICROSERVICES, down % MICROSERVICES)
        if used and pair in PAIRS and np.isfinite(share) and share >= 0.0:
            expected.setdefault(PAIRS.index(pair), []).append((ids[up], ids[down], share))
    links = {
        pair: list(zip(of.upstream.tolist(), of.downstream.tolist(), of.weight.tolist(), strict=True))
        for pair, of in plan.links.items()
    }
    assert links == expected
    assert list(links) == sorted(links)
    assert illegal == len(edges) - sum(map(len, expected.values()))
