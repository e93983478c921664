"""The search: its result meets the SLA, no single container can go, and it repeats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imbres_gym.config import ConfigError
from imbres_gym.oracle.run import find_oracle
from imbres_gym.oracle.search import CHECK, PROBE, feasible, meets_sla
from imbres_gym.oracle.simulate import Allocation, Effort, Simulator, proportions_of
from imbres_gym.scenario import load_scenario

QUICK = Effort(seeds=(2000, 2001), windows=2, window_s=20.0, settle_s=5.0)


def test_the_result_meets_the_sla_and_no_container_can_go(scenario_file: Path) -> None:
    scenario = load_scenario(scenario_file)
    record = find_oracle(scenario)
    names = scenario.application.microservice_names
    found = record.allocation(names)
    assert record.allocation(names[::-1]).replicas.tolist() == found.replicas.tolist()[::-1]
    simulator = Simulator(scenario)
    assert record.lower_bound == 7
    assert record.containers == found.containers > record.lower_bound
    p95_ms = simulator.window_p95_ms(found, CHECK)
    assert meets_sla(simulator, p95_ms)
    assert record.p95_ms == pytest.approx(p95_ms.mean(), abs=0.01)
    assert record.violated == np.mean(p95_ms > scenario.sla_ms) <= 0.05
    for index in range(2):
        fewer = found.replicas.copy()
        fewer[index] -= 1
        smaller = replace(found, replicas=fewer)
        assert not (feasible(simulator, smaller) and meets_sla(simulator, simulator.window_p95_ms(smaller, CHECK)))


def test_from_a_record_of_a_stricter_sla_it_is_quicker_and_no_worse(scenario_file: Path) -> None:
    strict = find_oracle(load_scenario(scenario_file))
    slack = find_oracle(load_scenario(scenario_file, sla_ms=400.0), strict)
    assert slack.containers <= strict.containers
    assert slack.simulated_s < strict.simulated_s


def test_a_start_that_does_not_suffice_is_left(scenario_file: Path) -> None:
    scenario = load_scenario(scenario_file)
    found = find_oracle(scenario)
    poor = found.model_copy(update={"replicas": {"front": 1, "back": 1}})
    assert find_oracle(scenario, poor).replicas == found.replicas


def test_measurements_repeat_and_do_not_depend_on_what_was_measured_before(scenario_file: Path) -> None:
    scenario = load_scenario(scenario_file)
    connections = "agents.connections.full:FullConnections"
    one = Allocation(np.array([7, 9]), np.ones((2, 2)), connections)
    other = Allocation(np.array([9, 9]), np.ones((2, 2)), connections)
    used = Simulator(scenario)
    first = used.window_p95_ms(one, QUICK)
    used.window_p95_ms(other, QUICK)
    np.testing.assert_array_equal(used.window_p95_ms(one, QUICK), first)
    np.testing.assert_array_equal(Simulator(scenario).window_p95_ms(one, QUICK), first)
    assert len(first) == 4


def test_an_overload_ends_the_measurement_and_is_no_success(scenario_file: Path) -> None:
    simulator = Simulator(load_scenario(scenario_file))
    overloaded = Allocation(np.array([2, 2]), np.ones((2, 2)), "agents.connections.full:FullConnections")
    p95_ms = simulator.window_p95_ms(overloaded, QUICK)
    assert len(p95_ms) < 4
    assert not meets_sla(simulator, p95_ms)
    assert simulator.score(overloaded, PROBE) > 2.0


def test_an_sla_that_nothing_meets_is_said_so(scenario_file: Path) -> None:
    with pytest.raises(ConfigError, match="sla_ms: no number of containers"):
        find_oracle(load_scenario(scenario_file, sla_ms=5.0))


def test_every_container_gets_its_weight() -> None:
    # Weights 2 and 1 with 1 and 3 containers: 2 to 3.
    proportions = proportions_of(np.array([[2.0, 1.0], [1.0, 0.0]]), np.array([[1, 3], [0, 2]]))
    np.testing.assert_allclose(proportions, [[0.4, 0.6], [0.0, 1.0]])
