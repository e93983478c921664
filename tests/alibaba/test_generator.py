"""Generated clusters: as many of everything as was asked for, the same for a seed, and with Alibaba's statistics.

Tolerances are five standard errors of the sample. Where the sample of a statistic is of services, it is that many.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imbres_gym.alibaba.generated import generated_scenario
from imbres_gym.alibaba.generator import GeneratedCluster, generate
from imbres_gym.alibaba.statistics import (
    Histogram,
    branching_statistics,
    call_statistics,
    calls_of,
    levels_of,
    utilisation_statistics,
)
from imbres_gym.alibaba.trees import Tree, draw_tree, parts_of
from imbres_gym.config import ConfigError
from imbres_gym.sim.events import EventCluster

SERVICES = 4000
ERRORS = 5.0


@pytest.fixture(scope="module")
def trees() -> list[Tree]:
    rng = np.random.default_rng(2000)
    return [draw_tree(call_statistics(), branching_statistics(), 3000, rng) for _ in range(SERVICES)]


@pytest.fixture(scope="module")
def large() -> GeneratedCluster:
    return generate(1500, 4000, 2000)


def is_large(tree: Tree) -> bool:
    return bool(np.any(tree.probability < 1.0))


def assert_same_shares(values: NDArray[np.int64], known: Histogram) -> None:
    """Shares of the values agree with a histogram, each within its sampling error."""
    for value, chance in zip(known.values, known.chances, strict=True):
        error = np.sqrt(chance * (1.0 - chance) / len(values))
        assert np.mean(values == value) == pytest.approx(chance, abs=ERRORS * error + 1e-3), value


def test_calls_repeat_as_often_as_real_ones(trees: list[Tree]) -> None:
    is_store = np.concatenate([tree.is_store for tree in trees])
    repeat = np.concatenate([tree.repeat for tree in trees])
    below = np.concatenate([tree.parent for tree in trees]) >= 0
    assert_same_shares(repeat[is_store], call_statistics().store_repeats)
    assert_same_shares(repeat[~is_store & below], call_statistics().microservice_repeats)


def test_typical_services_have_the_calls_and_levels_of_real_requests(trees: list[Tree]) -> None:
    known = call_statistics()
    typical = [tree for tree in trees if not is_large(tree)]
    assert_same_shares(np.array([len(tree.parent) for tree in typical]), known.per_request(calls_of))
    assert_same_shares(np.array([tree.level.max() for tree in typical]), known.per_request(levels_of))
    fan_out = np.array([np.sum(tree.parent == 0) for tree in typical])
    assert_same_shares(fan_out, known.per_request(lambda shape: len(parts_of(shape))))


@pytest.mark.parametrize(
    ("shape", "calls", "levels", "parts"),
    [("m", 1, 1, []), ("m(s)", 2, 2, ["s"]), ("m(m(m(s)m)ss)", 7, 4, ["m(m(s)m)", "s", "s"])],
)
def test_a_shape_is_read_as_it_is_written(shape: str, calls: int, levels: int, parts: list[str]) -> None:
    assert (calls_of(shape), levels_of(shape), parts_of(shape)) == (calls, levels, parts)


def test_large_services_are_as_many_and_as_large_as_real_ones(trees: list[Tree]) -> None:
    known = call_statistics()
    found = [tree for tree in trees if is_large(tree)]
    share = known.large_share
    assert len(found) / SERVICES == pytest.approx(share, abs=ERRORS * np.sqrt(share * (1.0 - share) / SERVICES))
    sizes = np.log([len(tree.parent) for tree in found])
    target = np.log(np.interp(np.linspace(0.0, 1.0, 1001), np.linspace(0.0, 1.0, 41), known.large_sizes))
    assert sizes.mean() == pytest.approx(target.mean(), abs=ERRORS * target.std() / np.sqrt(len(found)))
    chances = np.concatenate([tree.probability[1:] for tree in found])
    shares = np.histogram(chances, 10, (0.0, 1.0))[0] / len(chances)
    assert shares == pytest.approx(known.large_probability, abs=ERRORS * 0.5 / np.sqrt(len(chances)) + 0.001)


def test_popularity_is_as_uneven_as_that_of_real_services(large: GeneratedCluster) -> None:
    known = 10.0 ** call_statistics().log10_requests
    shares = np.sort(large.popularity)[::-1]
    assert shares.sum() == pytest.approx(1.0)
    # Half of the services have about the same number of requests: the median is near the upper quartile.
    assert np.median(shares) / np.quantile(shares, 0.75) == pytest.approx(known[50] / known[75], rel=0.2)
    assert shares[: max(1, len(shares) // 100)].sum() > 0.3  # of real ones, the top 1 % have 0.69


def test_the_largest_size_is_what_was_asked_for_and_takes_seconds() -> None:
    began = time.process_time()
    cluster = generate(1500, 4000, 2001)
    scenario = generated_scenario(cluster)
    assert time.process_time() - began < 10.0
    assert len(scenario.application.microservices) == 1500
    assert scenario.hosts.count == 4000
    counts = cluster.sizes.containers
    assert sum(scenario.initial_replicas.values()) == counts.sum() == 300_000
    assert (counts.min(), counts.max()) == (10, 1000)
    assert scenario.application.container.cores == 4.0


def test_calls_go_one_way_and_every_microservice_is_called(large: GeneratedCluster) -> None:
    pairs = large.shared.pairs()
    callees: dict[int, list[int]] = {}
    callers = np.zeros(1500, dtype=int)
    for upstream, downstream in pairs.tolist():
        callees.setdefault(upstream, []).append(downstream)
        callers[downstream] += 1
    waiting, done = callers.copy(), 0
    ready = np.flatnonzero(waiting == 0).tolist()
    while ready:  # Kahn's algorithm: reaches all if there is no cycle
        done += 1
        for callee in callees.get(ready.pop(), []):
            waiting[callee] -= 1
            if waiting[callee] == 0:
                ready.append(callee)
    assert done == 1500
    assert np.all(large.calls_per_request > 0.0)


def test_few_microservices_are_hot_spots(large: GeneratedCluster) -> None:
    calls = np.bincount([microservice for _, _, microservice in large.shared.calls()], minlength=1500)
    assert np.median(calls) == 1
    assert np.sort(calls)[-15:].sum() > 0.1 * calls.sum()  # 1 % of them take a tenth of all places


def test_containers_are_busy_as_planned_or_less(large: GeneratedCluster) -> None:
    sizes = large.sizes
    busy = sizes.rps * large.calls_per_request * sizes.cpu_ms / 1000.0 / (4.0 * sizes.containers)
    assert np.all(busy <= 0.35 + 1e-9)
    assert np.all((sizes.cpu_ms >= 0.16 - 1e-9) & (sizes.cpu_ms <= 25.0))
    assert 0.05 < np.average(busy, weights=sizes.containers) <= 0.35


def test_hosts_differ_as_real_machines_do(large: GeneratedCluster) -> None:
    known = utilisation_statistics()
    levels = large.levels
    assert levels.mean() == pytest.approx(known.mean, abs=0.005)
    assert levels.std() == pytest.approx(known.deviation_between, abs=0.005)
    assert levels.min() < 0.1
    assert levels.max() > 0.65


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 30), st.integers(0, 2**32), st.integers(0, 300))
def test_any_size_gives_a_scenario(microservices: int, hosts: int, seed: int, spare: int) -> None:
    cluster = generate(microservices, hosts, seed, microservices + spare)
    scenario = generated_scenario(cluster)
    assert len(scenario.application.microservices) == microservices
    assert sum(scenario.initial_replicas.values()) == microservices + spare
    assert min(scenario.initial_replicas.values()) >= 1
    expected = scenario.application.calls_per_request()
    names = list(scenario.application.microservices)
    assert [expected[name] for name in names] == pytest.approx(cluster.calls_per_request.tolist(), rel=1e-3, abs=1e-6)


def test_a_seed_is_a_cluster() -> None:
    assert generated_scenario(generate(40, 20, 7)) == generated_scenario(generate(40, 20, 7))
    assert generated_scenario(generate(40, 20, 7)) != generated_scenario(generate(40, 20, 8))


@pytest.mark.parametrize(
    ("microservices", "hosts", "containers", "what"),
    [(0, 1, 1, "microservices"), (1, 0, 1, "hosts"), (5, 1, 4, "containers")],
)
def test_too_few_of_anything_is_an_error(microservices: int, hosts: int, containers: int, what: str) -> None:
    with pytest.raises(ConfigError, match=f"--{what}"):
        generate(microservices, hosts, 0, containers)


def test_the_event_engine_runs_a_small_one() -> None:
    scenario = generated_scenario(generate(40, 20, 2000, 60))
    cluster = EventCluster(scenario)
    cluster.reset(2000)
    telemetry = cluster.advance(5.0)
    assert telemetry.requests.sum() == pytest.approx(5.0 * scenario.workload.rate(0.0), rel=0.1)
    assert telemetry.failed.sum() == 0
