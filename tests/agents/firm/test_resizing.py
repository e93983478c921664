"""State, action and reward of FIRM's agent: worked by hand, and bounds."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given
from hypothesis import strategies as st

from agents.scaling.firm.resizing import resized, rewards, served_classes, slo_maintenance, states, utilisation
from imbres_gym.application import Application

BOTH = np.ones((2, 1), bool)


def test_slo_maintenance_is_the_share_of_the_sla_that_latency_leaves() -> None:
    info = make_info()  # its SLA is 100 ms
    for p95_ms, expected in ((50.0, 1.0), (100.0, 1.0), (125.0, 0.8), (0.0, 1.0)):  # 0: no traffic
        observation = make_observation(info, [[1, 1], [1, 1]], window_p95_ms=[p95_ms])
        assert slo_maintenance(observation, BOTH).tolist() == pytest.approx([expected, expected])


def test_a_microservice_is_charged_for_the_classes_that_call_it() -> None:
    info = make_info(classes=("a", "b"))  # the SLA is 100 ms
    observation = make_observation(info, [[1, 1], [1, 1]], window_p95_ms=[80.0, 200.0])
    # Both classes call the first, class a alone the second.
    served = np.array([[True, True], [True, False]])
    assert slo_maintenance(observation, served).tolist() == pytest.approx([0.5, 1.0])
    # The reward follows: half of 3 times that, beside half of what is used.
    used = utilisation(observation).sum(axis=1)
    assert rewards(observation, served).tolist() == pytest.approx((np.array([0.75, 1.5]) + 0.5 * used).tolist())


def test_served_classes_leave_out_stores_and_rare_calls() -> None:
    application = Application.model_validate(
        {
            "name": "shop",
            "container": {"cores": 0.1, "memory_mb": 200.0},
            "hop_ms": 0.2,
            "stores": {"db": {"operations": {"get": 1.0}}},
            "microservices": {name: {"operations": {"get": {"cpu_ms": 1.0}}} for name in ("front", "back", "audit")},
            "request_classes": {
                "read": {"share": 0.5, "tree": {"call": "front/get", "stages": [[{"call": "db/get"}]]}},
                "buy": {
                    "share": 0.5,
                    "tree": {
                        "call": "front/get",
                        "stages": [[{"call": "back/get"}], [{"call": "audit/get", "probability": 0.05}]],
                    },
                },
            },
        }
    )
    assert served_classes(application).tolist() == [[True, True], [False, True], [False, False]]


def test_utilisation_is_that_of_the_containers() -> None:
    info = make_info()
    # Microservice 0 has three containers on host 0 and one on host 1, microservice 1 none.
    observation = make_observation(
        info,
        [[3, 1], [0, 0]],
        cpu_utilisation=[[0.4, 0.8], [0.0, 0.0]],
        interference=[[0.9, 0.2, 0.0, 0.9], [0.9, 0.6, 0.4, 0.9]],
    )
    # CPU (3 x 0.4 + 0.8) / 4, bandwidth (3 x 0.2 + 0.6) / 4, network 0.4 / 4; CPU of the hosts and LLC do not count.
    assert utilisation(observation).tolist() == [pytest.approx([0.5, 0.3, 0.1]), [0.0, 0.0, 0.0]]
    # SM is 1: half of 3, and half of 0.5 + 0.3 + 0.1.
    assert rewards(observation, BOTH).tolist() == pytest.approx([1.95, 1.5])


def test_states_by_hand() -> None:
    info = make_info(classes=("a", "b"), max_replicas=50)
    observation = make_observation(
        info, [[2, 2], [5, 5]], workload_rps=[90.0, 30.0], window_p95_ms=[40.0, 200.0], wanted=[4, 10]
    )
    served = np.array([[True, True], [True, False]])
    seen = states(observation, 100.0, info, served)
    assert seen.dtype == np.float32
    # SM 100/200, and 1 without the second class; WC 120/100; shares 3/4, 1/4, none; CPU 0.5, bandwidth and
    # network 0.3; 4/50.
    assert seen[0].tolist() == pytest.approx([0.5, 1.2, 0.75, 0.25, 0.0, 0.5, 0.3, 0.3, 0.08])
    assert seen[1].tolist() == pytest.approx([1.0, 1.2, 0.75, 0.25, 0.0, 0.5, 0.3, 0.3, 0.2])
    assert states(observation, 0.0, info, served)[0, 1] == 1.0  # the first decision knows no change
    assert states(observation, 1.0, info, served)[0, 1] == 2.0  # cut off


def test_of_many_classes_the_first_three_count() -> None:
    info = make_info(classes=tuple("abcd"))
    observation = make_observation(info, [[1, 1], [1, 1]], workload_rps=[10.0, 20.0, 30.0, 40.0])
    assert states(observation, 0.0, info, np.ones((2, 4), bool))[0, 2:5].tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_resizing_by_hand() -> None:
    # 20 (1 + 0.25) = 25; 20 (1 - 0.5) = 10; 3 (1 + 0.1) = 3.3, rounded.
    assert resized(np.array([20, 20, 3]), np.array([0.5, -1.0, 0.2]), (1, 200)).tolist() == [25, 10, 3]


def test_a_single_container_can_become_two_and_two_can_become_one() -> None:
    assert resized(np.array([1, 2]), np.array([0.9, -0.9]), (1, 200)).tolist() == [2, 1]


@given(st.integers(1, 200), st.floats(-1.0, 1.0))
def test_resizing_is_bounded_and_monotonic(count: int, action: float) -> None:
    (after,) = resized(np.array([count]), np.array([action]), (1, 200)).tolist()
    assert 1 <= after <= 200
    assert abs(after - count) <= max(0.5 * count, 1.0) + 0.5
    assert (after - count) * action >= 0.0
    (more,) = resized(np.array([count]), np.array([min(action + 0.1, 1.0)]), (1, 200)).tolist()
    assert more >= after


@given(st.floats(0.0, 1e6), st.floats(0.0, 40.0), st.floats(0.0, 1.0))
def test_states_and_rewards_are_bounded(p95_ms: float, cpu: float, interference: float) -> None:
    info = make_info()
    observation = make_observation(
        info,
        [[2, 1], [1, 0]],
        window_p95_ms=[p95_ms],
        cpu_utilisation=np.full((2, 2), cpu),
        interference=np.full((2, 4), interference),
    )
    seen = states(observation, 50.0, info, BOTH)
    assert np.all((seen >= 0.0) & (seen <= 2.0))
    paid = rewards(observation, BOTH)
    assert np.all((paid >= 0.0) & (paid <= 3.0))
