"""Balancers of single calls: their rules on cases worked by hand, and what clients keep when containers come and go."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from theory.builders import application, call, microservice, scenario

from imbres_gym.plan import Balancer, ConnectionPlan, Links, Plan
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.balancers import cost, observe, round_robin
from imbres_gym.sim.balancing import LINK, POOL, PROBE, new_balancing
from imbres_gym.sim.clients import Directory
from imbres_gym.sim.episode import Episode
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.load_reports import refresh_weights, take_reports
from imbres_gym.sim.prequal import (
    best_answer,
    drop_old,
    hot_limit,
    keep,
    median,
    remove_one,
    reuse_budget,
    worst_answer,
)
from imbres_gym.sim.random import seeded_streams
from imbres_gym.sim.state import NOW
from imbres_gym.sim.workload import Step, StepWorkload
from imbres_gym.telemetry import Telemetry

REACTING = [b for b in Balancer if b is not Balancer.WEIGHTED]


def answers(*rif_and_latency: tuple[int, float]) -> NDArray[np.void]:
    """A pool of probe answers of the links 0, 1, ..., received one after the other."""
    pool = np.zeros(POOL, PROBE)
    for k, (rif, latency) in enumerate(rif_and_latency):
        pool[k] = (k, rif, latency, float(k), 1)
    return pool


@pytest.mark.parametrize(
    ("pool", "limit", "best", "worst"),
    [
        # Three cold: the lowest latency is best, the highest worst.
        ([(1, 30.0), (2, 10.0), (0, 20.0)], 2, 1, 0),
        # One hot, and it is the fastest: the fastest cold one is best, the hot one worst.
        ([(5, 1.0), (1, 40.0), (2, 30.0)], 2, 2, 0),
        # All hot: the fewest in flight whatever the latency, and the most.
        ([(5, 1.0), (4, 40.0), (9, 30.0)], 2, 1, 2),
    ],
)
def test_the_hot_cold_lexicographic_rule(pool: Sequence[tuple[int, float]], limit: int, best: int, worst: int) -> None:
    assert best_answer(answers(*pool), len(pool), limit) == best
    assert worst_answer(answers(*pool), len(pool), limit) == worst


def test_the_limit_between_hot_and_cold_is_a_quantile() -> None:
    """Of 10 answers at least 2 ** -0.25 = 0.841, so 9, must not exceed it."""
    counts = np.zeros(64, np.int16)
    counts[[0, 1, 3, 8]] = [4, 4, 1, 1]
    assert hot_limit(counts, 10) == 3
    counts[[1, 3]] = [5, 0]
    assert hot_limit(counts, 10) == 1


@pytest.mark.parametrize(
    ("n", "uses"),
    [
        (1000, 2.0 / (0.984 * 3.0 - 1.0)),  # 1.02
        (30, 2.0 / (3.0 * 14.0 / 30.0 - 1.0)),  # 5
        (10, 16.0),  # more are removed than come in
    ],
)
def test_the_reuse_budget(n: int, uses: float) -> None:
    assert reuse_budget(n) == pytest.approx(uses)


def test_a_pool_keeps_the_newest_answer_of_each_container_and_drops_the_oldest() -> None:
    balancing = new_balancing(n_clients=1)
    me, pool = balancing.clients[0], balancing.pool[0]
    for link in range(POOL):
        keep(me, pool, np.array([(link, 0, 1.0, float(link), 1)], PROBE)[0])
    keep(me, pool, np.array([(3, 7, 2.0, 20.0, 1)], PROBE)[0])
    keep(me, pool, np.array([(3, 9, 2.0, 19.0, 1)], PROBE)[0])  # older than the one it would replace
    keep(me, pool, np.array([(99, 0, 2.0, 21.0, 1)], PROBE)[0])
    assert balancing.clients[0]["answers"] == POOL
    assert sorted(pool["link"].tolist()) == [*range(1, POOL), 99]
    assert pool["rif"][pool["link"] == 3].tolist() == [7]


def test_old_answers_and_those_of_gone_links_leave_the_pool() -> None:
    balancing = new_balancing(n_clients=1)
    me, pool = balancing.clients[0], balancing.pool[0]
    pool[:5] = answers(*[(0, 1.0)] * 5)[:5]
    pool["received"][:5] = [0.0, 999.0, 1000.0, 1500.0, 1999.0]
    pool["link"][3] = -1
    me["answers"] = 5
    drop_old(me, pool, 2000.0)  # an answer counts for a second
    assert sorted(pool["received"][: balancing.clients[0]["answers"]].tolist()) == [1000.0, 1999.0]


def test_the_oldest_answer_and_the_worst_are_removed_in_turn() -> None:
    balancing = new_balancing(n_clients=1)
    me, pool = balancing.clients[0], balancing.pool[0]
    pool[:4] = answers((1, 30.0), (9, 10.0), (0, 20.0), (0, 40.0))[:4]
    me["answers"] = 4
    left = []
    for _ in range(3):
        remove_one(me, pool, 2)
        left.append(sorted(pool["link"][: balancing.clients[0]["answers"]].tolist()))
    # Link 0 is the oldest; 1 is hot and so the worst; then 2 is the oldest.
    assert left == [[1, 2, 3], [2, 3], [3]]


def test_the_median_of_recent_latencies() -> None:
    ring = np.array([[5.0, 10.0], [1.0, 20.0], [9.0, 30.0], [3.0, 40.0], [7.0, 50.0], [0.0, 0.0], [0.0, 0.0]])
    assert median(ring, 5, 0.0) == 5.0
    assert median(ring, 4, 0.0) == 3.0  # the lower one
    assert median(ring, 5, 25.0) == 7.0  # of 9, 3 and 7
    assert median(ring, 5, 60.0) == -1.0
    ring[:, 0] = 2.0
    assert median(ring, 7, 0.0) == 2.0


def test_peak_ewma_rises_at_once_and_decays_over_ten_seconds() -> None:
    link = np.zeros(1, LINK)
    link["latency"] = 30.0
    observe(link[0], 50.0, 1_000.0)
    assert link["latency"][0] == 50.0
    observe(link[0], 20.0, 11_000.0)
    expected = 20.0 + 30.0 * np.exp(-1.0)
    assert link["latency"][0] == pytest.approx(expected)
    link["active"] = 2
    assert cost(link[0], 11_000.0) == pytest.approx(3.0 * expected)
    assert cost(link[0], 21_000.0) == pytest.approx(3.0 * expected * np.exp(-1.0))


def test_round_robin_gives_turns_by_weight_and_smoothly() -> None:
    """Weights 1 : 3 : 2 in every twelve turns, and never three times the same in a row."""
    balancing, streams = new_balancing(n_links=3, n_clients=1), seeded_streams(5)
    balancing.links["weight"] = [1.0, 3.0, 2.0]
    turns = [round_robin(balancing, streams, 0, 0, 3) for _ in range(120)]
    for first in range(0, 120, 12):
        counts = np.bincount(turns[first : first + 12], minlength=3)
        assert np.all(np.abs(counts - [2, 6, 4]) <= 1)
    assert np.all(np.abs(np.bincount(turns) - [20, 60, 40]) <= 1)
    assert not any(turns[i] == turns[i + 1] == turns[i + 2] for i in range(118))


def test_weights_of_load_reports() -> None:
    """Calls/s over utilisation and errors, after a blackout of 10 s; the mean where one is missing; gone after 180."""
    balancing = new_balancing(n_links=4, n_clients=1, n_slots=4)
    links = Directory(np.zeros(1, np.int64), np.zeros(4, np.int64), np.arange(4), np.arange(4))
    use = np.array([0.5, 0.25, 0.4, 0.2])
    for second in range(1, 12):
        # 20/s; 20/s; 20/s with every second one an error; none.
        balancing.served[:] = [[20, 0], [20, 0], [20, 10], [0, 0]]
        take_reports(balancing, links, use, 1.0, float(second))
        if second < 11:
            assert balancing.links["weight"].tolist() == [1.0] * 4
    expected = [40.0, 80.0, 20.0 / 0.9]
    np.testing.assert_allclose(balancing.links["weight"], [*expected, np.mean(expected)])
    # One that begins to report waits for its own blackout; one that has none to offer keeps its last weight.
    balancing.served[:] = [[0, 0], [20, 0], [20, 10], [20, 0]]
    take_reports(balancing, links, use, 1.0, 12.0)
    np.testing.assert_allclose(balancing.links["weight"], [*expected, np.mean(expected)])
    balancing.links["reported"][1:] = 190.0
    refresh_weights(balancing, links, 191.0)
    # The first one's last report is 180 s old.
    rest = [80.0, 20.0 / 0.9, 100.0]
    np.testing.assert_allclose(balancing.links["weight"], [np.mean(rest), *rest])
    balancing.links["reported"][2:] = 0.0
    refresh_weights(balancing, links, 192.0)
    assert balancing.links["weight"].tolist() == [1.0] * 4


def test_a_new_weight_keeps_the_share_of_the_way_to_the_next_turn() -> None:
    balancing = new_balancing(n_links=2, n_clients=1, n_slots=2)
    links = Directory(np.zeros(1, np.int64), np.zeros(2, np.int64), np.arange(2), np.arange(2))
    balancing.clients["turn"] = 10.0
    balancing.links["turn"] = [10.5, np.nan]
    balancing.links["report"], balancing.links["since"], balancing.links["reported"] = [4.0, 2.0], 0.0, 20.0
    refresh_weights(balancing, links, 20.0)
    assert balancing.links["turn"][0] == pytest.approx(10.0 + 0.5 / 4.0)
    assert np.isnan(balancing.links["turn"][1])


def tiers(rps: float | StepWorkload = 300.0) -> Scenario:
    """A calls B twice at once, on two hosts."""
    services = {"a": microservice(0.5, 8.0), "b": microservice(4.0, 2.0, workers=4, accept_queue=2)}
    app = application(services, call("a", [call("b"), call("b")]), hop_ms=1.0)
    hosts = Hosts(count=2, cores=100.0, memory_mb=1e6)
    return scenario(app, rps, {"a": 3, "b": 6}, hosts=hosts, startup_s=1.0, trace_sampling=1.0)


def episode_of(cluster: EventCluster) -> Episode:
    saved = cluster.snapshot()
    assert isinstance(saved, Episode)
    return saved


def balanced(balancer: Balancer, seed: int, rps: float | StepWorkload = 300.0) -> tuple[EventCluster, Telemetry]:
    cluster = EventCluster(tiers(rps))
    cluster.reset(seed)
    cluster.apply(Plan(balancer=balancer))
    return cluster, cluster.advance(5.0)


def of(telemetry: Telemetry, microservice: int) -> NDArray[np.int64]:
    mine: NDArray[np.int64] = telemetry.container_id[telemetry.container_microservice == microservice]
    return mine


@pytest.mark.parametrize("balancer", REACTING)
def test_calls_stay_on_the_links_of_the_connection_plan(balancer: Balancer) -> None:
    """Weights do not matter, but who may be called does; an upstream container without links may call all."""
    cluster, first = balanced(balancer, 11)
    up, down = of(first, 0), of(first, 1)
    allowed = {(int(up[0]), int(down[1])), (int(up[0]), int(down[4])), (int(up[1]), int(down[2]))}
    links = Links(*np.array(sorted(allowed)).T, np.array([0.9, 0.1, 1.0]))
    cluster.apply(Plan(connections=ConnectionPlan({0: links})))
    cluster.advance(1.0)
    spans = cluster.advance(10.0).spans
    container = dict(zip(spans["span"].tolist(), spans["container"].tolist(), strict=True))
    calls = zip(spans["parent"].tolist(), spans["container"].tolist(), strict=True)
    used = {(container[parent], callee) for parent, callee in calls if parent in container}
    planned = {pair for pair in used if pair[0] in (up[0], up[1])}
    assert planned == allowed
    assert {down for up_id, down in used if up_id == up[2]} == set(down.tolist())


@pytest.mark.parametrize("balancer", REACTING)
def test_every_call_is_answered_and_counted_off(balancer: Balancer) -> None:
    """Through scaling, changes of plan and rejections: no request is lost, and no client thinks a call in flight."""
    steps = StepWorkload(steps=[Step(at_s=0.0, rps=900.0), Step(at_s=40.0, rps=0.0)])
    cluster = EventCluster(tiers(steps))
    seen = [cluster.reset(12)]
    cluster.apply(Plan(balancer=balancer))
    for replicas in ([3, 6], [2, 9], [4, 4], [3, 7], [1, 5], [3, 6]):
        seen.append(cluster.advance(5.0))
        active = episode_of(cluster).state.balancing.links["active"]
        assert active.min() >= 0 and active.sum() > 0
        up, down = of(seen[-1], 0), of(seen[-1], 1)
        links = Links(np.repeat(up, 2), np.resize(down, 2 * len(up)), np.ones(2 * len(up)))
        plan = ConnectionPlan({0: links}) if replicas[0] == 3 else ConnectionPlan()
        cluster.apply(Plan(replicas=np.array(replicas), connections=plan))
    seen += [cluster.advance(5.0) for _ in range(4)]
    arrived = sum(float(t.workload_rps[0]) * t.interval_s for t in seen)
    assert round(arrived) == sum(int(t.requests[0]) for t in seen) > 30_000
    assert sum(int(t.failed[0]) for t in seen) > 0
    assert not episode_of(cluster).state.balancing.links["active"].any()


def known(cluster: EventCluster) -> dict[tuple[int, int], float]:
    """(client, container) -> latency that the client has in mind."""
    episode = episode_of(cluster)
    names = episode.directory.clients[episode.directory.client_of].tolist()
    latency = episode.state.balancing.links["latency"].tolist()
    return dict(zip(zip(names, episode.directory.containers.tolist(), strict=True), latency, strict=True))


def test_clients_keep_what_they_know_of_the_containers_that_stay() -> None:
    cluster, _ = balanced(Balancer.PEAK_EWMA, 13)
    before = known(cluster)
    cluster.apply(Plan(replicas=np.array([2, 5])))
    fewer = known(cluster)
    assert 0 < len(fewer) < len(before)
    assert fewer.items() <= before.items()
    cluster.apply(Plan(replicas=np.array([4, 8])))
    cluster.advance(1.5)
    more = known(cluster)
    new = {name: latency for name, latency in more.items() if name not in fewer}
    # One more client of all 8 containers of B, 3 new containers for the clients there were, 2 for the gateway of A;
    # the pools of B have rows too, which no gateway uses.
    assert fewer.keys() <= more.keys() and len(new) > 20
    cluster.apply(Plan(balancer=Balancer.LEAST_REQUEST))
    assert set(known(cluster).values()) == {30.0}


def test_what_is_assumed_of_a_new_link_has_no_age_yet() -> None:
    """100 s after the start the 30 ms count as known now: a new container is not taken for one that answers at once."""
    cluster, _ = balanced(Balancer.PEAK_EWMA, 13)
    cluster.apply(Plan(replicas=np.array([2, 5])))
    cluster.advance(100.0)
    there = known(cluster).keys()
    cluster.apply(Plan(replicas=np.array([2, 7])))
    while not known(cluster).keys() - there:
        cluster.advance(0.5)
    episode = episode_of(cluster)
    links, now_ms = episode.state.balancing.links, episode.state.clock[NOW]
    new = np.isin(episode.directory.containers, [container for _, container in known(cluster).keys() - there])
    assert new.any() and np.all(now_ms - links["updated"][new] <= 1000.0)


@pytest.mark.parametrize("balancer", REACTING)
def test_same_seed_same_bits_and_the_same_future_from_a_snapshot(balancer: Balancer) -> None:
    def drive(cluster: EventCluster) -> list[Telemetry]:
        measured = []
        for step in range(4):
            cluster.apply(Plan(replicas=np.array([2 + step % 3, 3 + step % 2]), balancer=balancer))
            measured.append(cluster.advance(5.0))
        return measured

    first, second = EventCluster(tiers()), EventCluster(tiers())
    first.reset(14)
    second.reset(14)
    assert drive(first) == drive(second)
    saved = pickle.dumps(first.snapshot())
    future = drive(first)
    second.restore(pickle.loads(saved))
    assert drive(second) == future
