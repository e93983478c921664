"""Static scaling, Imbres' scaling as a policy, and the clock that they share."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from agents.scaling.clock import IntervalClock
from agents.scaling.imbres import ImbresScaling, slowest_service
from agents.scaling.static import StaticScaling
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation


def test_the_clock_strikes_once_per_interval() -> None:
    clock = IntervalClock(15.0)
    struck = [t for t in range(5, 65, 5) if clock.due(float(t))]
    assert struck == [15, 30, 45, 60]
    assert clock.due(200.0)
    assert not clock.due(205.0)


def test_static_scaling_keeps_the_start() -> None:
    info = make_info(initial_replicas=np.array([3, 5]))
    observation = make_observation(info, [[1, 1], [1, 1]])
    for options, wanted in ({}, [3, 5]), ({"service-1": 7}, [3, 7]):
        policy = StaticScaling(replicas=options)
        policy.reset(info, seed=0)
        assert policy.scale(observation).tolist() == wanted


@pytest.mark.parametrize(
    ("replicas", "message"), [({"servce-1": 2}, "did you mean 'service-1'"), ({"service-1": 99}, "outside 1..50")]
)
def test_static_scaling_refuses_what_is_not_there(replicas: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StaticScaling(replicas=replicas).reset(make_info(), seed=0)


def test_imbres_decides_at_its_own_interval_on_the_mean_load() -> None:
    info = make_info()
    policy = ImbresScaling()
    policy.reset(info, seed=0)
    ready = [[5, 0], [5, 0]]
    decisions = []
    for step in range(1, 13):
        # Half the interval at 50 requests/s and half at 150: W = 100, P = 10. L = 200, SLA = 100: dP = -1,
        # R* = 100 / 9 = 11.1 -> 12, dR = 2. Microservice 1 has twice the calls, and the table is flat: it gets both.
        rps = 50.0 if step <= 6 else 150.0
        observation = make_observation(
            info,
            ready,
            time_s=[5.0 * step],
            workload_rps=[rps],
            load_rps=[[rps, 0.0], [2.0 * rps, 0.0]],
            window_p95_ms=[200.0],
        )
        decisions.append(policy.scale(observation).tolist())
    assert decisions[:11] == [[4, 4]] * 11
    assert decisions[11] == [5, 7]


def test_imbres_takes_the_slowest_class() -> None:
    info = make_info(classes=("read", "write"))
    policy = ImbresScaling()
    policy.reset(info, seed=0)
    observation = make_observation(
        info, [[5, 0], [5, 0]], time_s=[60.0], workload_rps=[40.0, 60.0], window_p95_ms=[20.0, 200.0]
    )
    assert policy.scale(observation).sum() == 12


def test_pending_containers_count() -> None:
    info = make_info()
    policy = ImbresScaling()
    policy.reset(info, seed=0)
    observation = make_observation(
        info,
        [[4, 0], [4, 0]],
        pending=[[1, 0], [1, 0]],
        time_s=[60.0],
        workload_rps=[100.0],
        window_p95_ms=[200.0],
    )
    assert policy.scale(observation).sum() == 12


def test_a_safety_margin_lowers_the_target() -> None:
    info = make_info()
    observation = make_observation(info, [[5, 0], [5, 0]], time_s=[60.0], workload_rps=[100.0], window_p95_ms=[95.0])
    totals = []
    for safety in 1.0, 0.5:
        policy = ImbresScaling(safety=safety)
        policy.reset(info, seed=0)
        totals.append(int(policy.scale(observation).sum()))
    # At 1.0: P = 10 + 0.2 * 5 * 10 / 95 = 10.1, R* = 10. At 0.5: P = 10 - 0.2 * 45 * 10 / 95 = 9.05, R* = 12.
    assert totals == [10, 12]


def test_the_second_decision_knows_the_first_interval() -> None:
    info = make_info()
    policy = ImbresScaling()
    policy.reset(info, seed=0)
    policy.scale(make_observation(info, [[5, 5], [5, 5]], time_s=[60.0], workload_rps=[100.0], window_p95_ms=[100.0]))
    # P = 5 -> 10, L = 100 -> 200: Newton, dP = 0.5 * 5 * (100 - 200) / 100 = -2.5, R* = 13.3 -> 14.
    wanted = policy.scale(
        make_observation(info, [[5, 0], [5, 0]], time_s=[120.0], workload_rps=[100.0], window_p95_ms=[200.0])
    )
    assert wanted.sum() == 14


@pytest.mark.parametrize("idle", [{"workload_rps": [0.0]}, {"window_p95_ms": [0.0]}])
def test_without_requests_nothing_changes(idle: dict[str, list[float]]) -> None:
    info = make_info()
    policy = ImbresScaling()
    policy.reset(info, seed=0)
    assert policy.scale(make_observation(info, [[5, 0], [5, 0]], time_s=[60.0], **idle)).tolist() == [4, 4]


def test_a_microservice_belongs_to_the_slowest_service_that_calls_it() -> None:
    called = ((0, 1), (1, 2), (2, 3), (4,))
    assert slowest_service(np.array([30.0, 90.0, 60.0, 0.0]), called, 6).tolist() == [0, 1, 1, 2, -1, -1]


def test_each_service_scales_the_microservices_that_no_slower_one_calls() -> None:
    # Both call microservice 1. The slow one, 200 ms, has it and its own: P = 60 / 20 = 3, dP = -0.3, R* = 22.2 -> 23.
    # The fast one, 50 ms, has what is left: P = 40 / 10 = 4, dP = 0.8, R* = 8.3 -> 9. Nobody asks for microservice 3.
    info = make_info(microservices=4, classes=("slow", "fast"), called=((0, 1), (1, 2)))
    policy = ImbresScaling(scope="service", maximum_load=False)
    policy.reset(info, seed=0)
    ready = [[10, 0]] * 4
    interval = {"workload_rps": [60.0, 40.0], "load_rps": [[60.0, 0.0], [100.0, 0.0], [40.0, 0.0], [0.0, 0.0]]}
    wanted = policy.scale(make_observation(info, ready, time_s=[60.0], window_p95_ms=[200.0, 50.0], **interval))
    assert wanted[:2].sum() == 23 and wanted[2:].tolist() == [9, 4]
    # Now the other one is slower: microservice 1 changes hands. By the last interval, P = 3 and L = 200, service "slow"
    # would take Newton's step (P = 6, L = 230), but that was of other microservices: dP = -0.2 * 130 / 230 * 6 = -0.68,
    # R* = 11.3 -> 12. For 240 ms: P = 40 / 20 = 2, dP = -0.23, R* = 22.6 -> 23.
    wanted = policy.scale(make_observation(info, ready, time_s=[120.0], window_p95_ms=[230.0, 240.0], **interval))
    assert wanted[0] == 12 and wanted[1:3].sum() == 23


class ByName:
    """A table that knows microservices by their number, one of which may carry 60 calls/s."""

    target = 0.5

    def observe(self, observation: Observation) -> None:
        pass

    def latency_ms(self, microservice: ArrayLike, interference: ArrayLike, load_rps: ArrayLike) -> NDArray[np.float64]:
        # On a calm host, as microservice 1 alone, a container counts for nothing.
        calm = np.asarray(interference)[:, 0] < 0.2
        return np.where(calm, 0.0, np.asarray(load_rps) * np.array([9.0, 1.0, 9.0, 100.0])[microservice])

    def maximum_load_rps(self, microservice: ArrayLike) -> NDArray[np.float64]:
        return np.where(np.asarray(microservice) == 1, 60.0, np.inf)


def test_the_microservices_of_a_service_keep_what_is_theirs() -> None:
    # Service 0 has the microservices 1 and 3 with ten containers each. 200 ms: P = 5, dP = -0.5, R* = 22.2 -> 23.
    info = make_info(microservices=4, classes=("one", "other"), called=((1, 3), (0, 2)))
    ready = [[0, 10], [10, 0], [0, 10], [0, 10]]
    loads = {"workload_rps": [100.0, 0.0], "load_rps": [[0.0, 900.0], [500.0, 0.0], [0.0, 900.0], [0.0, 100.0]]}

    def decide(p95_ms: float, calm: float = 0.1) -> list[int]:
        policy = ImbresScaling(scope="service", criterion="table")
        policy.reset(info, seed=0)
        policy.table = ByName()
        seen = make_observation(
            info, ready, time_s=[60.0], interference=[[calm] * 4, [0.3] * 4], window_p95_ms=[p95_ms, 0.0], **loads
        )
        return policy.scale(seen).tolist()

    assert decide(200.0) == decide(200.0, calm=0.3) == [4, 10, 4, 13]
    # 50 ms: dP = 1, R* = 16.7 -> 17. Of microservice 1 one container may go: nine have 56 calls/s each, eight 63.
    assert decide(50.0) == [4, 9, 4, 8]


@pytest.mark.parametrize(
    ("carried_load", "proportions", "wanted"),
    [
        # Ten containers with 500 calls/s: 60 is half a quota, and nine have 56, eight 63.
        (False, [0.8, 0.2], 9),
        (True, [0.2, 0.8], 9),  # balanced
        # One of the first two carries 2.0 times the mean: at its quota, 120, when the mean is 60.
        (True, [0.4, 0.6], 9),
        (True, [0.44, 0.56], 10),  # 2.2 times, 55: nine have 56 already
        (True, [0.8, 0.2], 10),  # four times, 30: too few as it is, but none is added
    ],
)
def test_carried_load_keeps_the_most_loaded_container_below_its_quota(
    carried_load: bool, proportions: list[float], wanted: int
) -> None:
    info = make_info(microservices=4, classes=("one", "other"), called=((1,), (0, 2, 3)))
    policy = ImbresScaling(scope="service", criterion="table", carried_load=carried_load)
    policy.reset(info, seed=0)
    policy.table = ByName()
    seen = make_observation(
        info,
        [[0, 10], [2, 8], [0, 10], [0, 10]],
        time_s=[60.0],
        proportions=[[0.0, 1.0], proportions, [0.0, 1.0], [0.0, 1.0]],
        workload_rps=[100.0, 0.0],
        load_rps=[[0.0, 0.0], [100.0, 400.0], [0.0, 0.0], [0.0, 0.0]],
        window_p95_ms=[10.0, 0.0],
    )
    assert policy.scale(seen)[1] == wanted


def test_services_without_requests_change_nothing() -> None:
    info = make_info(microservices=3, classes=("some", "none"), called=((0,), (1, 2)))
    policy = ImbresScaling(scope="service")
    policy.reset(info, seed=0)
    observation = make_observation(
        info, [[5, 0]] * 3, time_s=[60.0], workload_rps=[50.0, 0.0], window_p95_ms=[200.0, 0.0]
    )
    assert policy.scale(observation).tolist() == [6, 4, 4]


class Steep:
    """A table by which microservice 1 gains 1.2 times as much from a container as microservice 0."""

    target = 0.5

    def observe(self, observation: Observation) -> None:
        pass

    def latency_ms(self, microservice: ArrayLike, interference: ArrayLike, load_rps: ArrayLike) -> NDArray[np.float64]:
        assert np.asarray(interference) == pytest.approx(np.full((np.size(microservice), 4), 0.3))
        return np.asarray(load_rps) * np.array([1.0, 1.2])[microservice]

    def maximum_load_rps(self, microservice: ArrayLike) -> NDArray[np.float64]:
        return np.full(np.shape(microservice), np.inf)


@pytest.mark.parametrize(("criterion", "favourite"), [("imbalance", 0), ("table", 1)])
def test_the_criterion_decides_who_gets_the_containers(criterion: str, favourite: int) -> None:
    info = make_info()
    policy = ImbresScaling(criterion=criterion)  # type: ignore[arg-type]
    policy.reset(info, seed=0)
    policy.table = Steep()
    # alpha = 1.8 and 1. W = 100, R = 12, L = 120: P = 8.33, dP = -0.28, R* = 12.4 -> 13, dR = 1.
    observation = make_observation(
        info,
        [[3, 3], [3, 3]],
        time_s=[60.0],
        proportions=[[0.9, 0.1], [0.5, 0.5]],
        workload_rps=[100.0],
        window_p95_ms=[120.0],
    )
    assert (policy.scale(observation) - 6)[favourite] == 1


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.floats(0.0, 1e5), st.floats(0.0, 1e4)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["imbalance", "table", "random"]),
    st.booleans(),
    st.sampled_from(["application", "service"]),
)
def test_replicas_stay_within_bounds(
    intervals: list[tuple[int, int, float, float]], criterion: str, limit: bool, scope: str
) -> None:
    info = make_info(min_replicas=2, max_replicas=50)
    policy = ImbresScaling(criterion=criterion, limit=limit, scope=scope)  # type: ignore[arg-type]
    policy.reset(info, seed=0)
    for step, (first, second, rps, latency) in enumerate(intervals, start=1):
        wanted = policy.scale(
            make_observation(
                info,
                [[first, 0], [second, 0]],
                time_s=[60.0 * step],
                workload_rps=[rps],
                window_p95_ms=[latency],
            )
        )
        assert wanted.dtype == np.int64
        assert np.all((wanted >= 2) & (wanted <= 50))


@pytest.mark.parametrize(
    "options", [{"eta1": 0.0}, {"beta": -1.0}, {"safety": 1.5}, {"criterion": "luck"}, {"scope": "me"}]
)
def test_wrong_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        ImbresScaling(**options)  # type: ignore[arg-type]
