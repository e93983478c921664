"""Several microservices: product-form networks, parallel calls, Little's law and conservation of flow."""

from __future__ import annotations

import numpy as np
import pytest

from imbres_gym.application import Application, Store
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.workload import Step, StepWorkload
from theory.builders import application, call, intervals, microservice, neutral, scenario, totals
from theory.estimates import assert_agrees, batch_means, in_batches

BATCHES = 40


def branching() -> Application:
    """A calls B with probability 0.5, then B twice in a row, then a store: 4 bursts of A, 2.5 calls of B."""
    return application(
        {"a": microservice(8.0), "b": microservice(3.0)},
        call("a", [call("b", probability=0.5)], [call("b", repeat=2)], [call("s")]),
        stores={"s": Store(operations={"op": 7.0})},
        hop_ms=1.0,
    )


@pytest.mark.parametrize("shape", [1.0, 4.0])
@pytest.mark.parametrize("containers", [1, 3])
def test_call_tree_is_a_product_form_network(containers: int, shape: float) -> None:
    """BCMP: each container is M/M/1-PS on its own, whatever the demand's distribution; hops and stores only delay."""
    setting = scenario(branching(), 80.0 * containers, replicas=containers, effects=neutral(demand_shape=shape))
    measured = intervals(setting, 100.0 / containers, BATCHES, seed=11)
    b = 3.0 / (1.0 - 0.08 * 2.5 * 3.0)
    own_a = 8.0 / (1.0 - 0.08 * 8.0)
    e2e = 1.0 + own_a + 2.5 * (1.0 + b) + 7.0
    assert_agrees(batch_means([t.latencies_ms[0].mean() for t in measured]), e2e)
    own = np.array([np.average(t.own_latency_ms, axis=1, weights=t.samples[0]) for t in measured])
    assert_agrees(batch_means(own[:, 0]), own_a)
    assert_agrees(batch_means(own[:, 1]), b)
    assert_agrees(batch_means([t.cpu_utilisation[0, 0] for t in measured]), 0.64)
    assert_agrees(batch_means([t.cpu_utilisation[1, 0] for t in measured]), 0.6)


def test_calls_of_a_stage_overlap_and_stages_do_not() -> None:
    """max of two exponentials has the mean x + y - 1 / (1/x + 1/y); a third store in the next stage adds its own."""
    x, y, z = 20.0, 30.0, 5.0
    stores = {name: Store(operations={"op": mean}) for name, mean in (("x", x), ("y", y), ("z", z))}
    app = application({"a": microservice(1.0, 64.0)}, call("a", [call("x"), call("y")], [call("z")]), stores=stores)
    measured = intervals(scenario(app, 1000.0), 5.0, BATCHES, seed=12, warmup_s=5.0)
    stages = x + y - 1.0 / (1.0 / x + 1.0 / y) + z
    assert_agrees(batch_means([t.latencies_ms[0].mean() for t in measured]), 1.0 + stages)
    assert_agrees(batch_means([t.own_latency_ms[0, 0] for t in measured]), 1.0)


def test_the_number_of_calls_that_a_look_finds() -> None:
    """Calls in a container are geometric (BCMP), whatever it is that they come from; requests follow Little's law.

    The looks leave out a second at both ends, since spans that had not ended are missing.
    """
    setting = scenario(branching().model_copy(update={"hop_ms": 0.0}), 80.0, trace_sampling=1.0)
    measured = intervals(setting, 2000.0, 1, seed=13)[0]
    looks = np.linspace(measured.time_s - 1999.0, measured.time_s - 1.0, 200_001)
    found = []
    for m in range(2):
        spans = measured.spans[measured.spans["microservice"] == m]
        started = np.searchsorted(np.sort(spans["start_s"]), looks, side="right")
        ended = np.searchsorted(np.sort(spans["end_s"]), looks, side="right")
        found.append((started - ended).astype(np.float64))
        duration_s = float(np.mean(spans["end_s"] - spans["start_s"]))
        assert found[m].mean() == pytest.approx(measured.load_rps[m, 0] * duration_s, rel=0.003)
    in_a, in_b = found
    busy = 0.08 * 2.5 * 3.0
    for number in range(4):
        assert_agrees(in_batches((in_b == number).astype(np.float64), BATCHES), (1.0 - busy) * busy**number, 0.02)
    assert_agrees(in_batches(in_b, BATCHES), busy / (1.0 - busy), 0.02)
    b, own_a = 3.0 / (1.0 - busy), 8.0 / (1.0 - 0.08 * 8.0)
    assert_agrees(in_batches(in_a, BATCHES), 0.08 * (own_a + 2.5 * b + 7.0), 0.02)


def test_flow_is_conserved() -> None:
    """When all is quiet again every request has ended, and each microservice got exactly the calls of the tree."""
    app = application(
        {name: microservice(1.0) for name in ("a", "b", "c")},
        call("a", [call("b", [call("c")], repeat=3), call("c", repeat=2)], [call("b")]),
    )
    burst = StepWorkload(steps=[Step(at_s=0.0, rps=300.0), Step(at_s=30.0, rps=0.0)])
    cluster = EventCluster(scenario(app, burst, replicas=2))
    measured = [cluster.reset(14), *(cluster.advance(5.0) for _ in range(8))]
    arrived = int(totals(measured, "workload_rps")[0])
    assert arrived > 8000 and sum(int(t.requests[0]) for t in measured) == arrived
    assert sum(int(t.failed[0]) for t in measured) == 0
    visits = np.array([1, 4, 5])
    np.testing.assert_array_equal(totals(measured, "load_rps")[:, 0], visits * arrived)
    np.testing.assert_array_equal(sum(t.samples[:, 0] for t in measured), visits * arrived)
