"""Load proportions and connection weights decide which container gets a call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imbres_gym.plan import ConnectionPlan, Links, Plan
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.events import EventCluster
from imbres_gym.telemetry import Telemetry
from theory.builders import application, call, microservice, neutral, scenario
from theory.estimates import assert_shares

HOSTS = Hosts(count=3, cores=100.0, memory_mb=1e6)
UP, DOWN = 0, 1


def two_tiers(**changes: Any) -> Scenario:
    """A (3 containers) calls B (6 containers) on three hosts; all requests are traced."""
    app = application({"a": microservice(0.1, 8.0), "b": microservice(0.1, 8.0)}, call("a", [call("b")]))
    return scenario(app, 500.0, replicas={"a": 3, "b": 6}, hosts=HOSTS, trace_sampling=1.0, **changes)


def ids(telemetry: Telemetry, m: int) -> NDArray[np.int64]:
    """Containers of a microservice."""
    mine: NDArray[np.int64] = telemetry.container_id[telemetry.container_microservice == m]
    return mine


def traffic(spans: NDArray[np.void], up: NDArray[np.int64], down: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n_up, n_down) calls from container to container, from the parents of spans."""
    container_of = dict(zip(spans["span"].tolist(), spans["container"].tolist(), strict=True))
    children = [span for span in spans if int(span["parent"]) in container_of]
    counts = np.zeros((len(up), len(down)), np.int64)
    for span in children:
        caller, callee = container_of[int(span["parent"])], int(span["container"])
        counts[np.flatnonzero(up == caller)[0], np.flatnonzero(down == callee)[0]] += 1
    return counts


def test_weights_of_links_are_obeyed() -> None:
    """Each upstream container splits its calls by its own row; rows need not be normalised; no row: proportions."""
    cluster = EventCluster(two_tiers())
    first = cluster.reset(31)
    up, down = ids(first, UP), ids(first, DOWN)
    weights = np.array([[1.0, 2.0, 0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.3, 0.1, 0.0, 0.0], [0.0] * 6])
    i, j = np.nonzero(weights)
    plan = ConnectionPlan({0: Links(up[i], down[j], weights[i, j])})
    hosts = np.array([0.5, 0.3, 0.2])
    cluster.apply(Plan(proportions=np.array([[0.2, 0.3, 0.5], hosts]), connections=plan))
    cluster.advance(1.0)
    measured = cluster.advance(40.0)
    counts = traffic(measured.spans, up, down)
    assert_shares(counts[0], weights[0])
    assert_shares(counts[1], weights[1])
    host_of = {int(c): int(h) for c, h in zip(measured.container_id, measured.container_host, strict=True)}
    assert_shares(counts[2], [hosts[host_of[int(c)]] / 2.0 for c in down])
    np.testing.assert_array_equal(measured.connections, [3 + 2 + 6])


def test_links_with_weight_zero_carry_nothing() -> None:
    """A link of weight 0 is no link, and the others of its row share the calls."""
    cluster = EventCluster(two_tiers())
    first = cluster.reset(32)
    up, down = ids(first, UP), ids(first, DOWN)
    links = Links(np.repeat(up, 3), np.tile(down[:3], 3), np.tile([0.0, 1.0, 3.0], 3))
    cluster.apply(Plan(connections=ConnectionPlan({0: links})))
    cluster.advance(1.0)
    counts = traffic(cluster.advance(20.0).spans, up, down)
    assert_shares(counts.sum(axis=0), [0.0, 1.0, 3.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("proportions", [[0.6, 0.1, 0.3], [0.0, 1.0, 0.0]])
def test_proportions_are_obeyed(proportions: list[float]) -> None:
    """Calls of end users and calls between microservices go to hosts by the proportions, alike within a host."""
    cluster = EventCluster(two_tiers())
    cluster.reset(33)
    cluster.apply(Plan(proportions=np.array([proportions, proportions[::-1]])))
    cluster.advance(1.0)
    measured = cluster.advance(40.0)
    calls = measured.load_rps * measured.interval_s
    assert_shares(calls[UP], proportions)
    assert_shares(calls[DOWN], proportions[::-1])
    busiest = int(np.argmax(proportions[::-1]))
    there = (measured.container_microservice == DOWN) & (measured.container_host == busiest)
    assert there.sum() == 2
    assert_shares(measured.container_rps[there] * measured.interval_s, [1.0, 1.0])


def test_pair_share_is_what_happens() -> None:
    """The planned share of traffic from host to host is the measured one."""
    cluster = EventCluster(two_tiers(effects=neutral()))
    cluster.reset(34)
    cluster.apply(Plan(proportions=np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])))
    cluster.advance(1.0)
    measured = cluster.advance(40.0)
    host = dict(zip(measured.container_id.tolist(), measured.container_host.tolist(), strict=True))
    up, down = ids(measured, UP), ids(measured, DOWN)
    counts = np.zeros((3, 3))
    for (i, j), calls in np.ndenumerate(traffic(measured.spans, up, down)):
        counts[host[int(up[i])], host[int(down[j])]] += calls
    assert measured.pair_share[0].sum() == pytest.approx(1.0)
    assert_shares(counts.ravel(), measured.pair_share[0].ravel())
