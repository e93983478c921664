"""The engine against two independent simulators: Ciw for queueing networks, SimPy for all the rules together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ciw  # type: ignore[import-untyped]
import numpy as np
import pytest
from numpy.typing import NDArray
from oracles.simpy_engine import OracleResult, simulate

from imbres_gym.application import Sensitivity, Store
from imbres_gym.plan import Balancer, ConnectionPlan, Links, Plan
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.effects import Effects
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.interference import Level
from imbres_gym.telemetry import Telemetry
from theory.builders import application, call, intervals, microservice, neutral, scenario, single
from theory.estimates import assert_same, batch_means, in_batches, quantile_in_batches

BATCHES = 20
FRONT, STOCK = 0, 2


def ciw_records(network: Any, seconds: float, node: Any = ciw.Node) -> list[Any]:
    """Records of a Ciw simulation (times in s)."""
    ciw.seed(71)
    simulation = ciw.Simulation(network, node_class=node)
    simulation.simulate_until_max_time(seconds)
    return [record for record in simulation.get_all_records() if record.arrival_date > 20.0]


def test_feedback_network_as_ciw() -> None:
    """A calls B and goes on: in Ciw a customer's route is A, B, A, with two processor-sharing cores at each station."""
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(120.0), None],
        service_distributions=[ciw.dists.Gamma(4.0, 0.006 / 4.0), ciw.dists.Gamma(4.0, 0.010 / 4.0)],
        number_of_servers=[float("inf"), float("inf")],
        ps_thresholds=[2, 2],
        routing=ciw.routing.ProcessBased(lambda individual, simulation: [2, 1]),
    )
    records = sorted(ciw_records(network, 200.0, ciw.PSNode), key=lambda r: (r.id_number, r.arrival_date))
    whole = [records[i : i + 3] for i in range(len(records) - 2) if [r.node for r in records[i : i + 3]] == [1, 2, 1]]
    sojourn = np.array([(visits[2].exit_date - visits[0].arrival_date) * 1e3 for visits in whole])
    app = application({"a": microservice(12.0, 2.0), "b": microservice(10.0, 2.0)}, call("a", [call("b")]))
    measured = intervals(scenario(app, 120.0, effects=neutral(demand_shape=4.0)), 50.0, BATCHES, seed=72)
    assert_same(batch_means([t.latencies_ms[0].mean() for t in measured]), in_batches(sojourn, BATCHES), 0.04)


def test_finite_queue_as_ciw() -> None:
    """M/G/3/8 has no closed form: rejections, mean and p95."""
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(280.0)],
        service_distributions=[ciw.dists.Gamma(0.5, 0.010 / 0.5)],
        number_of_servers=[3],
        queue_capacities=[5],
    )
    records = ciw_records(network, 250.0)
    rejected = np.array([float(r.record_type == "rejection") for r in sorted(records, key=lambda r: r.arrival_date)])
    served = sorted((r for r in records if r.record_type == "service"), key=lambda r: r.arrival_date)
    sojourn = np.array([(r.exit_date - r.arrival_date) * 1e3 for r in served])
    setting = single(10.0, 280.0, neutral(demand_shape=0.5), cores=3.0, workers=3, accept_queue=5)
    measured = intervals(setting, 20.0, BATCHES, seed=73)
    assert_same(batch_means([t.failed[0] / t.requests[0] for t in measured]), in_batches(rejected, BATCHES), 0.06)
    assert_same(batch_means([t.latencies_ms[0].mean() for t in measured]), in_batches(sojourn, BATCHES), 0.03)
    p95 = quantile_in_batches(sojourn, 0.95, BATCHES)
    assert_same(batch_means([np.quantile(t.latencies_ms[0], 0.95) for t in measured]), p95, 0.03)


def shop(**changes: Any) -> Scenario:
    """A small application with every rule at work."""
    app = application(
        {
            "front": microservice(2.0, 0.4, parallelism=4, idle_cores=0.02),
            "cart": microservice(3.0, 0.3, parallelism=2, sensitivity=Sensitivity(cpu=1.5, memory_bandwidth=2.0)),
            "stock": microservice(1.5, 0.3, demand_shape=3.0, parallelism=4, sensitivity=Sensitivity(network=3.0)),
        },
        call(
            "front",
            [call("cart", [call("stock", probability=0.6), call("cache", probability=0.5)]), call("stock", repeat=2)],
            [call("database")],
        ),
        stores={
            "cache": Store(operations={"op": 1.0}),
            "database": Store(operations={"op": 6.0}, traced=False),
        },
        hop_ms=0.8,
        span_share=0.7,
        deadline_ms=10_000.0,
    )
    levels = [
        Level(cpu=0.6, memory_bandwidth=0.4, network=0.5, llc=0.3),
        Level(cpu=0.2, memory_bandwidth=0.1, network=0.1, llc=0.1),
    ]
    hosts = Hosts(count=2, cores=8.0, memory_mb=1e4)
    replicas = {"front": 2, "cart": 2, "stock": 2}
    return scenario(app, 30.0, replicas, levels, hosts, **{"effects": Effects(), **changes})


def engine_runs(
    setting: Scenario, runs: int, seconds: float, plan: Callable[[Telemetry], Plan] | None = None
) -> list[OracleResult]:
    """Independent runs of the engine, each with new period phases, as the oracle's results."""
    results = []
    for seed in range(runs):
        cluster = EventCluster(setting)
        first = cluster.reset(seed)
        if plan is not None:
            cluster.apply(plan(first))
            cluster.advance(5.0)
        t = cluster.advance(seconds)
        results.append(
            OracleResult(
                own_ms=tuple(t.own_latency_ms),
                e2e_ms=t.latencies_ms,
                requests=t.requests,
                failed=t.failed,
                calls=np.rint(t.load_rps * seconds).astype(np.int64),
                utilisation=t.cpu_utilisation,
                spans=int(t.samples.sum()),
            )
        )
    return results


def oracle_runs(setting: Scenario, runs: int, seconds: float, **balancing: Any) -> list[OracleResult]:
    """Independent runs of the oracle, as many containers on each host as the engine places."""
    counts = EventCluster(setting).reset(0).ready
    return [
        simulate(setting, seconds, seed, warmup_s=5.0, counts=counts, **balancing) for seed in range(100, 100 + runs)
    ]


def measures(run: OracleResult) -> NDArray[np.float64]:
    """Mean, median and p95 of the E2E latency, and per microservice and host the CPU use and the calls per request."""
    e2e = [run.e2e_ms[0].mean(), *np.quantile(run.e2e_ms[0], [0.5, 0.95])]
    return np.concatenate([e2e, run.utilisation.ravel(), run.calls.ravel() / run.requests[0]])


def assert_same_results(engine: list[OracleResult], oracle: list[OracleResult]) -> None:
    """All `measures` agree within the confidence of the two sets of runs, and nothing fails.

    A run is a batch: it has its own phases of the periods, which bursts of one request meet again and again.
    """
    ours, theirs = (np.array([measures(run) for run in runs]).T for runs in (engine, oracle))
    for one, other in zip(ours, theirs, strict=True):
        assert_same(batch_means(one), batch_means(other), sharpness=0.03)
    assert not any(run.failed.any() for run in [*engine, *oracle])


def own_latency(setting: Scenario, runs: int, seconds: float) -> list[list[NDArray[np.float64]]]:
    """Own latency [ms] of each microservice in independent runs of the engine, from traces of all requests."""
    found = []
    for seed in range(runs):
        cluster = EventCluster(setting.model_copy(update={"trace_sampling": 1.0}))
        cluster.reset(seed)
        spans = cluster.advance(seconds).spans
        found.append([spans["own_ms"][spans["microservice"] == m] for m in range(len(cluster.info.microservices))])
    return found


@pytest.mark.parametrize("client_spans", [True, False])
def test_all_rules_together_as_simpy(client_spans: bool) -> None:
    """Quota, interference, delays, stretch, hops, stores, stages and chance at once: own and E2E latency, CPU use."""
    setting = shop()
    app = setting.application.model_copy(update={"client_spans": client_spans})
    setting = setting.model_copy(update={"application": app})
    oracle = oracle_runs(setting, runs=10, seconds=40.0)
    assert_same_results(engine_runs(setting, runs=40, seconds=100.0), oracle)
    own = own_latency(setting, runs=40, seconds=100.0)
    for m in range(3):
        one, other = [run[m] for run in own], [run.own_ms[m] for run in oracle]
        assert_same(batch_means([x.mean() for x in one]), batch_means([x.mean() for x in other]), 0.03)
        p95 = (batch_means([np.quantile(x, 0.95) for x in runs]) for runs in (one, other))
        assert_same(next(p95), next(p95), 0.03)


def test_connection_plan_as_simpy() -> None:
    """With a sparse plan and a high cost of connections; containers are numbered host by host in both."""
    setting = shop(effects=Effects(connection_cost=4.0))
    pair = EventCluster(setting).info.pairs.index((FRONT, STOCK))
    rows = np.array([[0.9, 0.1], [0.0, 1.0]])

    def sparse(first: Telemetry) -> Plan:
        """The rows, for containers as this episode has placed them."""
        order = np.argsort(first.container_host, kind="stable")
        ids, of = first.container_id[order], first.container_microservice[order]
        i, j = np.nonzero(rows)
        links = Links(ids[of == FRONT][i], ids[of == STOCK][j], rows[i, j])
        return Plan(connections=ConnectionPlan({pair: links}))

    oracle = oracle_runs(setting, runs=8, seconds=30.0, rows={(FRONT, STOCK): rows})
    assert_same_results(engine_runs(setting, 30, 60.0, sparse), oracle)


def test_least_request_as_simpy() -> None:
    """Two clients share four servers at a load of 0.7; random picks would take half as long again."""
    services = {"a": microservice(0.1, 64.0), "b": microservice(50.0, 1.0)}
    setting = scenario(application(services, call("a", [call("b")]), hop_ms=1.0), 56.0, {"a": 2, "b": 4})
    oracle = oracle_runs(setting, runs=8, seconds=30.0, least_request=True)
    engine = engine_runs(setting, 30, 100.0, lambda first: Plan(balancer=Balancer.LEAST_REQUEST))
    means = (batch_means([run.e2e_ms[0].mean() for run in runs]) for runs in (engine, oracle))
    assert_same(next(means), next(means), sharpness=0.035)
