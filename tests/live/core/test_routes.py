"""Weights of pairs of containers: what a plan means, and how far one step goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imbres_gym.live.keeper import PlanKeeper
from imbres_gym.live.routes import Rows, Table, as_links, blended, build_rows, connection_codes, pair_share, step_shares
from imbres_gym.plan import FULL_CONNECTION, ConnectionPlan, Links, Plan
from imbres_gym.telemetry import ClusterInfo

PAIRS = ((0, 1),)


def table(up_hosts: list[int], down_hosts: list[int]) -> Table:
    """Upstream containers 0, 1, ... and downstream containers 10, 11, ... on two hosts."""
    ids = [*range(len(up_hosts)), *range(10, 10 + len(down_hosts))]
    microservice = [0] * len(up_hosts) + [1] * len(down_hosts)
    return Table(np.array(ids), np.array(microservice), np.array(up_hosts + down_hosts), (2, 2))


def links(*triples: tuple[int, int, float]) -> ConnectionPlan:
    up, down, weight = (np.array(column) for column in zip(*triples, strict=True))
    return ConnectionPlan({0: Links(up, down, weight)})


def rows_of(plan: ConnectionPlan, proportions: list[float], containers: Table) -> Rows:
    return build_rows(plan, np.array([[0.5, 0.5], proportions]), containers, PAIRS)[0]


def test_without_links_everybody_calls_by_the_proportions() -> None:
    rows = rows_of(FULL_CONNECTION, [0.8, 0.2], table([0, 1], [0, 1, 1]))
    assert rows.weight == pytest.approx(np.array([[0.8, 0.1, 0.1]] * 2))
    assert not rows.planned.any()


def test_links_are_normalised_for_each_caller() -> None:
    rows = rows_of(links((0, 10, 3.0), (0, 11, 1.0), (1, 11, 0.5)), [0.5, 0.5], table([0, 1], [0, 1]))
    assert rows.weight == pytest.approx(np.array([[0.75, 0.25], [0.0, 1.0]]))


def test_the_share_of_a_container_that_is_gone_is_spread() -> None:
    rows = rows_of(links((0, 10, 0.5), (0, 99, 0.5)), [0.5, 0.5], table([0], [0, 1]))
    assert rows.weight == pytest.approx(np.array([[0.75, 0.25]]))


def test_a_caller_without_a_living_link_calls_everybody() -> None:
    rows = rows_of(links((0, 99, 1.0), (1, 10, 1.0)), [0.25, 0.75], table([0, 1], [0, 1]))
    assert rows.weight == pytest.approx(np.array([[0.25, 0.75], [1.0, 0.0]]))
    assert rows.planned.tolist() == [False, True]


def test_no_weight_at_all_is_balanced() -> None:
    assert rows_of(FULL_CONNECTION, [0.0, 0.0], table([0], [0, 1])).weight.tolist() == [[0.5, 0.5]]


def test_a_pair_without_containers_on_one_side_has_no_rows() -> None:
    assert build_rows(FULL_CONNECTION, np.zeros((2, 2)), table([0], []), PAIRS) == {}


def test_links_of_rows_mean_the_same_rows() -> None:
    before = rows_of(links((0, 10, 0.3), (0, 11, 0.7), (1, 12, 1.0)), [0.5, 0.5], table([0, 1], [0, 1, 1]))
    again = rows_of(ConnectionPlan({0: as_links(before)}), [0.9, 0.1], table([0, 1], [0, 1, 1]))
    assert again.weight == pytest.approx(before.weight)


@given(
    arrays(np.float64, (2, 4), elements=st.floats(0.01, 1.0)),
    arrays(np.float64, (2, 4), elements=st.floats(0.01, 1.0)),
    st.floats(0.01, 1.0),
)
def test_a_step_never_moves_more_than_it_may(one: np.ndarray, other: np.ndarray, most: float) -> None:
    before, wanted = (
        Rows(np.arange(2), np.arange(10, 14), w / w.sum(axis=1, keepdims=True), np.ones(2, bool)) for w in (one, other)
    )
    share = step_shares({0: before}, {0: wanted}, most)[0]
    after = blended(before, wanted, share)
    assert 0.5 * np.abs(after.share - before.share).sum() <= most + 1e-9
    assert after.weight.sum(axis=1) == pytest.approx(1.0)
    if share == 1.0:
        assert after.weight == pytest.approx(wanted.weight)


def test_traffic_from_host_to_host_is_load_times_weight() -> None:
    containers = table([0, 1], [0, 1])
    rows = {0: rows_of(links((0, 10, 1.0), (1, 10, 0.5), (1, 11, 0.5)), [0.5, 0.5], containers)}
    shares = pair_share(rows, containers, np.array([[0.25, 0.75], [0.5, 0.5]]), 1)
    assert shares[0] == pytest.approx(np.array([[0.25, 0.0], [0.375, 0.375]]))


def test_connections_have_codes_of_their_own() -> None:
    rows = {0: rows_of(links((0, 10, 1.0), (1, 10, 0.5), (1, 11, 0.5)), [0.5, 0.5], table([0, 1], [0, 1]))}
    assert connection_codes(rows).tolist() == [10, (1 << 32) + 10, (1 << 32) + 11]
    assert connection_codes({}).tolist() == []


def keeper(most: float) -> PlanKeeper:
    info = ClusterInfo(
        microservices=("up", "down"),
        hosts=("a", "b"),
        classes=("all",),
        pairs=PAIRS,
        entries=(0,),
        called=((0, 1),),
        cores=np.ones(2),
        memory_mb=np.ones(2),
        host_cores=4.0,
        sla_ms=100.0,
        control_interval_s=5.0,
        scaling_interval_s=60.0,
        min_replicas=1,
        max_replicas=9,
        max_containers=18,
        connections_per_container=10,
        startup_s=1.0,
        initial_replicas=np.array([1, 2]),
    )
    return PlanKeeper(info, most)


def test_a_plan_that_is_on_its_way_arrives(  # also where the agent says nothing new about it
) -> None:
    containers = table([0], [0, 1])
    keeping = keeper(0.2)
    keeping.forget(containers)
    plan = links((0, 10, 1.0))
    shares = []
    for wanted in (Plan(connections=plan), Plan(), Plan(), Plan()):
        step = keeping.propose(wanted, containers)
        keeping.accept(step)
        shares.append(step.rows[0].share[0])
    assert shares == pytest.approx([0.7, 0.9, 1.0, 1.0])


def test_proportions_are_carried_over_to_new_containers() -> None:
    keeping = keeper(1.0)
    keeping.forget(table([0], [0, 1]))
    keeping.accept(keeping.propose(Plan(proportions=np.array([[1.0, 0.0], [0.8, 0.2]])), table([0], [0, 1])))
    keeping.follow(table([0], [0, 0, 1]))
    assert keeping.proportions[1] == pytest.approx([1.6 / 1.8, 0.2 / 1.8])


def test_churn_is_what_was_opened_and_closed_since_the_last_interval() -> None:
    containers = table([0, 1], [0, 1])
    keeping = keeper(1.0)
    keeping.forget(containers)
    wanted = np.array([1, 2])
    assert keeping.in_force(containers, wanted).churn == 4  # all of them are new at first
    assert keeping.in_force(containers, wanted).churn == 0
    keeping.accept(keeping.propose(Plan(connections=links((0, 10, 1.0), (1, 11, 1.0))), containers))
    in_force = keeping.in_force(containers, wanted)
    assert (in_force.churn, in_force.connections.tolist()) == (2, [2])
