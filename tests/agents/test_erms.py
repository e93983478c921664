"""Erms' closed form against a numerical optimiser, its fit on known surfaces, and what its policy promises."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import make_info, make_observation
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import make_profile
from scipy.optimize import minimize

from agents.scaling.erms.fit import Line, Pieces, find_knee, fit_model
from agents.scaling.erms.merge import Virtual, merge, split
from agents.scaling.erms.placement import place_evenly
from agents.scaling.erms.policy import ErmsScaling
from agents.scaling.erms.targets import Service, latency_targets
from agents.scaling.grandslam import GrandSlamScaling
from agents.scaling.latency_targets import weighted_targets
from agents.scaling.profiled import ProfiledScaling
from agents.scaling.rhythm import RhythmScaling
from imbres_gym.config import ConfigError
from imbres_gym.profiling.graph import CallNode
from imbres_gym.profiling.profile import save_profile

NAMES = "abcdef"


def longest_path(node: CallNode, own_ms: dict[str, float]) -> float:
    """Latency of the slowest path when every call takes its `own_ms`."""
    below = sum(max(longest_path(child, own_ms) for child in stage) for stage in node.stages)
    return node.repeat * (own_ms[node.microservice] + node.store_ms + below)


def paths(node: CallNode) -> list[dict[str, int]]:
    """Calls of each microservice along every path that takes one call of each stage."""
    found = [{node.microservice: node.repeat}]
    for stage in node.stages:
        below = [path for child in stage for path in paths(child)]
        found = [
            {name: path.get(name, 0) + node.repeat * more.get(name, 0) for name in path | more}
            for path in found
            for more in below
        ]
    return found


def n(name: str, *stages: tuple[CallNode, ...], repeat: int = 1) -> CallNode:
    return CallNode(microservice=name, stages=stages, repeat=repeat)


TREES = {
    "chain": n("a", (n("b"),), (n("c", (n("d"),)),)),
    "parallel": n("a", (n("b"), n("c"), n("d"))),
    "chains in parallel": n("a", (n("b", (n("c"),)), n("d", (n("e"),))), (n("f"),)),
    "repeated": n("a", (n("b", (n("c"), n("d")), repeat=3),), (n("e"),)),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
def test_targets_are_the_optimum(tree: CallNode) -> None:
    # Equal intercepts on parallel calls, where the closed form is exact.
    strength = dict(zip(NAMES, (3.0, 5.0, 2.0, 4.0, 1.0, 6.0), strict=True))
    services = {name: Virtual(strength[name], 1.0) for name in NAMES}
    targets = dict(split(merge(tree, services), 100.0))
    used = sorted(targets)

    def resource(above_ms: np.ndarray) -> float:
        return float(sum(strength[name] ** 2 / x for name, x in zip(used, above_ms, strict=True)))

    visits = np.array([[path.get(name, 0) for name in used] for path in paths(tree)])
    slack = lambda above_ms: 100.0 - visits @ (1.0 + above_ms)  # noqa: E731
    best = minimize(
        resource,
        np.full(len(used), 3.0),
        method="SLSQP",
        bounds=[(0.1, 100.0)] * len(used),
        constraints={"type": "ineq", "fun": slack},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    mine = np.array([targets[name] - 1.0 for name in used])
    assert best.success
    assert slack(mine).min() == pytest.approx(0.0, abs=1e-9)
    assert resource(mine) == pytest.approx(best.fun, rel=1e-4)


pieces = st.builds(
    lambda a1, b1, ratio, sigma: Pieces(
        Line(a1, b1), Line(a1 * ratio, b1 - a1 * (ratio - 1.0) * sigma), sigma, 3.0 * sigma
    ),
    st.floats(0.01, 2.0),
    st.floats(0.0, 10.0),
    st.floats(2.0, 40.0),
    st.floats(5.0, 100.0),
)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> CallNode:
    """Any call tree; a microservice may be called in several places."""
    stages: list[tuple[CallNode, ...]] = []
    if depth > 0:
        stages = draw(st.lists(st.lists(trees(depth=depth - 1), min_size=1, max_size=2).map(tuple), max_size=2))
    return CallNode(
        microservice=draw(st.sampled_from(NAMES)),
        repeat=draw(st.integers(1, 3)),
        store_ms=draw(st.floats(0.0, 2.0)),
        stages=tuple(stages),
    )


@settings(max_examples=60, deadline=None)
@given(trees(), st.lists(pieces, min_size=6, max_size=6), st.floats(1.0, 500.0), st.data())
def test_no_path_exceeds_the_sla(tree: CallNode, models: list[Pieces], sla_ms: float, data: st.DataObject) -> None:
    loads = data.draw(st.lists(st.floats(1.0, 1000.0), min_size=6, max_size=6))
    services = {name: Service(m, load, 1.0) for name, m, load in zip(NAMES, models, loads, strict=True)}
    targets = latency_targets(tree, services, sla_ms)
    assert longest_path(tree, {**dict.fromkeys(NAMES, 0.0), **targets}) <= sla_ms + 1e-6 * sla_ms
    if all(targets[name] > models[NAMES.index(name)].before.b for name in targets):
        for name, target in targets.items():  # the containers do meet the target, by the model
            service = services[name]
            load = service.load_rps / service.containers(target)
            assert service.pieces.latency_ms(load) <= target + 1e-6 * max(1.0, abs(target))


@settings(max_examples=60, deadline=None)
@given(trees(), st.lists(st.floats(0.01, 100.0), min_size=6, max_size=6), st.floats(50.0, 500.0))
def test_no_path_of_weighted_targets_exceeds_the_sla(tree: CallNode, weights: list[float], sla_ms: float) -> None:
    targets = weighted_targets(tree, dict(zip(NAMES, weights, strict=True)), sla_ms)
    stores = longest_path(tree, dict.fromkeys(NAMES, 0.0))
    if stores <= sla_ms:
        assert longest_path(tree, {**dict.fromkeys(NAMES, 0.0), **targets}) <= sla_ms * (1.0 + 1e-6)


def surface(x: float, C: float, M: float) -> float:
    """Knee at 10 requests/s, slopes that depend on interference, continuous."""
    before, after = 0.1 + 0.2 * C + 0.1 * M, 3.0 + 2.0 * C + 1.0 * M
    return 2.0 + before * min(x, 10.0) + after * max(x - 10.0, 0.0)


def test_fit_recovers_a_known_surface() -> None:
    model = fit_model(make_profile(surface), 0, sla_ms=1000.0)
    assert model.knee == pytest.approx(10.0)
    assert (model.before.alpha, model.before.beta, model.before.c, model.before.d) == pytest.approx(
        (0.2, 0.1, 0.1, 2.0)
    )
    pieces = model.at(0.4, 0.4)
    assert pieces.sigma == pytest.approx(10.0, rel=0.05)
    for x in (4.0, 8.0, 12.0, 16.0):
        assert pieces.latency_ms(x) == pytest.approx(surface(x, 0.4, 0.4), rel=0.1)
    # 5 % when idle, 42 % per 10 requests/s.
    assert model.utilisation(10.0) == pytest.approx(0.47)


def test_fit_leaves_out_what_no_target_can_be() -> None:
    # Beyond 16 requests/s the queue grows without bound.
    wild = fit_model(make_profile(lambda x, C, M: surface(x, C, M) + (5000.0 if x > 16.0 else 0.0)), 0, sla_ms=200.0)
    assert wild.at(0.4, 0.4).largest == pytest.approx(16.0)
    assert wild.at(0.4, 0.4).latency_ms(14.0) == pytest.approx(surface(14.0, 0.4, 0.4), rel=0.1)


def test_a_profile_without_a_usable_point_is_explained() -> None:
    profile = make_profile(surface)
    failed = profile.points.model_copy(update={"answered": tuple((0.5,) for _ in profile.points.load)})
    with pytest.raises(ConfigError, match=r"profile: service-0: in no point are 70% .* profile lower loads"):
        fit_model(profile.model_copy(update={"points": failed}), 0, sla_ms=200.0)


@pytest.mark.parametrize("calls", [0, 3])
def test_a_microservice_that_is_hardly_called_is_flat_and_needs_one_container(calls: int) -> None:
    profile = make_profile(surface)
    seldom = [(2.5 if i < calls else 0.0, 5.0) for i in range(len(profile.points.load))]
    silent = [(7.0 + i if i < calls else 0.0, 5.0) for i in range(len(profile.points.load))]
    points = profile.points.model_copy(update={"load_rps": tuple(seldom), "p95_ms": tuple(silent)})
    model = fit_model(profile.model_copy(update={"points": points}), 0, sla_ms=200.0)
    pieces = model.at(0.4, 0.4)
    assert pieces.latency_ms(0.01) == pytest.approx(9.0 if calls else 0.0, abs=1e-5)
    assert pieces.load_at(100.0) == (2.5 if calls else 1.0)


def test_the_largest_load_falls_with_interference() -> None:
    # Points lie 2 requests/s apart: up to 20 of them are below the SLA at 0.1, up to 14 at 0.7.
    steep = fit_model(make_profile(lambda x, C, M: 300.0 if x > 21.5 - 10.0 * C else 5.0 + x), 0, sla_ms=200.0)
    assert steep.at(0.1, 0.3).largest == pytest.approx(20.0, abs=0.5)
    assert steep.at(0.7, 0.3).largest == pytest.approx(14.0, abs=0.5)


def test_one_outlier_does_not_move_the_knee() -> None:
    x = np.linspace(2.0, 20.0, 10)
    y = np.array([surface(v, 0.3, 0.3) for v in x])
    y[9] = 5.0  # the best split of all points is at 6
    found = find_knee(x, y)
    assert found is not None
    knee, kept = found
    assert knee == 10.0 and kept.tolist() == [True] * 9 + [False]


def test_a_rarely_loaded_microservice_is_flat_at_the_p95_of_its_points() -> None:
    busy = make_profile(lambda x, C, M: x)  # each load as often; the tenth with the largest has 20 ms
    idle = busy.points.model_copy(update={"utilisation": tuple((0.05, 0.05) for _ in busy.points.load)})
    model = fit_model(busy.model_copy(update={"points": idle}), 0, sla_ms=200.0)
    assert model.at(0.7, 0.1).latency_ms(15.0) == pytest.approx(20.0, abs=0.05)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.lists(st.floats(0.0, 0.8), min_size=1, max_size=4))
def test_placement_leaves_no_better_host(counts: list[int], background: list[float]) -> None:
    use = np.linspace(0.05, 0.1, len(counts))
    placed = place_evenly(np.array(counts), use, np.full(len(counts), 0.1), np.array(background), 100.0)
    assert placed.sum(axis=1).tolist() == counts
    utilisation = np.array(background) + use @ placed / 100.0
    # Moving any container from its host to another would not lower the variance.
    for host in np.flatnonzero(placed.sum(axis=0)):
        smallest = use[placed[:, host] > 0].min() / 100.0
        assert utilisation[host] - smallest <= utilisation.min() + 0.1 / 100.0


POLICIES: list[type[ProfiledScaling]] = [ErmsScaling, RhythmScaling, GrandSlamScaling]


@pytest.fixture
def profile_file(tmp_path: Path) -> str:
    path = tmp_path / "made-up.json.gz"
    save_profile(make_profile(surface), path)
    return str(path)


def decide(policy: ProfiledScaling, rps: float, interference: float = 0.4, **info: float) -> np.ndarray:
    """Counts after one scaling interval."""
    cluster = make_info(**info)
    policy.reset(cluster, seed=0)
    start = cluster.initial_replicas.tolist()
    for step in range(1, 13):
        observation = make_observation(
            cluster,
            [[2, 2], [2, 2]],
            time_s=[5.0 * step],
            workload_rps=[rps],
            interference=np.full((2, 4), interference),
        )
        counts = policy.scale(observation)
        assert step == 12 or counts.tolist() == start, "it waits for its interval"
    return counts


@pytest.mark.parametrize("policy", POLICIES)
def test_containers_grow_with_the_workload_and_shrink_with_the_sla(
    policy: type[ProfiledScaling], profile_file: str
) -> None:
    at_100 = decide(policy(profile=profile_file), 100.0)
    # 100 requests/s, knee at 10 a container, two microservices with 50 ms each: somewhat beyond the knee.
    assert np.all((at_100 >= 5) & (at_100 <= 10))
    assert np.all(np.abs(decide(policy(profile=profile_file), 200.0) - 2 * at_100) <= 1)
    assert np.all(decide(policy(profile=profile_file), 100.0, sla_ms=20.0) > at_100)


@pytest.mark.parametrize("policy", POLICIES)
def test_without_requests_nothing_changes(policy: type[ProfiledScaling], profile_file: str) -> None:
    assert decide(policy(profile=profile_file), 0.0).tolist() == [4, 4]


@pytest.mark.parametrize("policy", POLICIES)
def test_headroom_plans_for_a_multiple_of_the_workload(policy: type[ProfiledScaling], profile_file: str) -> None:
    planned = decide(policy(profile=profile_file, headroom=2.0), 100.0)
    assert planned.tolist() == decide(policy(profile=profile_file), 200.0).tolist()
    with pytest.raises(ConfigError, match="headroom: 0 must be > 0"):
        policy(profile=profile_file, headroom=0)


def test_only_erms_knows_interference(profile_file: str) -> None:
    for policy in POLICIES:
        low, high = (decide(policy(profile=profile_file), 300.0, interference).sum() for interference in (0.1, 0.7))
        assert (high > low) == (policy is ErmsScaling)


def test_erms_says_where_its_containers_go(profile_file: str) -> None:
    policy = ErmsScaling(profile=profile_file)
    info = make_info()
    policy.reset(info, seed=0)
    assert policy.placement is None
    uneven = make_observation(
        info, [[2, 2], [2, 2]], time_s=[60.0], interference=[[0.6, 0.1, 0.1, 0.1], [0.2, 0.1, 0.1, 0.1]]
    )
    counts = policy.scale(uneven)
    assert policy.placement is not None
    assert policy.placement.sum(axis=1).tolist() == counts.tolist()
    assert policy.placement[:, 0].sum() == 0
    without = ErmsScaling(profile=profile_file, placement=False)
    without.reset(info, seed=0)
    without.scale(uneven)
    assert without.placement is None


def test_a_profile_of_another_application_is_refused(profile_file: str, tmp_path: Path) -> None:
    other = replace(make_info(), microservices=("service-0", "other"))
    for reference, message in (
        (profile_file, "'other'"),
        (str(tmp_path / "none.json"), "make one with: imbres-gym profile"),
    ):
        with pytest.raises(ConfigError, match=message):
            ErmsScaling(profile=reference).reset(other, seed=0)


def test_targets_of_a_class_with_an_unreachable_sla_stay_finite() -> None:
    services = {"a": Service(Pieces(Line(0.1, 50.0), Line(1.0, 41.0), 10.0, 30.0), 100.0, 1.0)}
    target = latency_targets(n("a"), services, 20.0)["a"]
    assert math.isfinite(target) and services["a"].containers(target) == 10  # at the knee
