"""Traces of the fluid engine, beyond what both engines promise (`theory/test_spans.py`): they fit the rest of it."""

from __future__ import annotations

import dataclasses
import pickle

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray
from theory.builders import application, call, microservice, neutral, scenario

from imbres_gym.critical_path import CI, RI, SHARE, critical_paths, path_features
from imbres_gym.plan import Plan
from imbres_gym.scenario import Hosts, Scenario, load_scenario
from imbres_gym.sim.effects import Effects
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.fluid.cluster import FluidCluster
from imbres_gym.sim.interference import Level
from imbres_gym.telemetry import SPAN, Telemetry


def busy(**changes: object) -> Scenario:
    """Two microservices under quota, on two hosts."""
    app = application(
        {"a": microservice(4.0, 0.5), "b": microservice(6.0, 0.5)},
        call("a", [call("b", probability=0.7), call("b", repeat=2)]),
        hop_ms=0.5,
    )
    hosts = Hosts(count=2, cores=8.0, memory_mb=1e4)
    return scenario(app, 20.0, {"a": 2, "b": 3}, [Level(cpu=0.5)], hosts, effects=Effects(), **changes)


def episode(setting: Scenario) -> list[Telemetry]:
    """Some intervals in which the containers change."""
    cluster = FluidCluster(setting)
    seen = [cluster.reset(7)]
    for count in (3, 4, 3):
        cluster.apply(Plan(replicas=np.array([count, count])))
        seen.append(cluster.advance(7.0))
    return seen


def without_spans(telemetry: Telemetry) -> Telemetry:
    return dataclasses.replace(telemetry, spans=np.zeros(0, SPAN))


def test_who_traces_sees_the_same_cluster() -> None:
    """Traces draw on random numbers of their own, and the same scenario and seed give the same ones."""
    plain, traced = episode(busy()), episode(busy(trace_sampling=0.5))
    assert [len(telemetry.spans) > 0 for telemetry in traced] == [True] * 4
    assert plain == [without_spans(telemetry) for telemetry in traced]
    assert traced == episode(busy(trace_sampling=0.5))


def test_a_snapshot_goes_on_with_the_same_traces() -> None:
    """Pickled, restored or cloned, in the middle of an interval too: the same spans, with numbers that go on."""
    cluster = FluidCluster(busy(trace_sampling=0.5))
    first = cluster.reset(7)
    saved, twin = pickle.dumps(cluster.snapshot()), cluster.clone()
    future = [cluster.advance(5.0) for _ in range(2)]
    assert [twin.advance(5.0) for _ in range(2)] == future
    cluster.restore(pickle.loads(saved))
    assert [cluster.advance(5.0) for _ in range(2)] == future
    spans = np.concatenate([first.spans, *(telemetry.spans for telemetry in future)])
    assert len(np.unique(spans["span"])) == len(spans)
    roots = spans[spans["parent"] == -1]
    assert len(np.unique(roots["request"])) == len(roots)


def test_spans_end_in_their_interval_on_containers_that_there_are() -> None:
    cluster = FluidCluster(busy(trace_sampling=1.0))
    cluster.reset(7)
    for _ in range(3):
        telemetry = cluster.advance(5.0)
        spans = telemetry.spans
        roots = spans[spans["parent"] == -1]
        assert len(roots) == telemetry.requests.sum() - telemetry.failed.sum()
        assert telemetry.time_s - 5.0 <= roots["end_s"].min() <= roots["end_s"].max() <= telemetry.time_s
        assert roots["end_s"].mean() == pytest.approx(telemetry.time_s - 2.5, abs=0.5)
        microservice = dict(zip(telemetry.container_id, telemetry.container_microservice, strict=True))
        assert all(microservice[span["container"]] == span["microservice"] for span in spans)


def test_calls_are_made_as_often_as_the_tree_says() -> None:
    """B is called 0.7 + 2 times per request; containers get calls by their shares of the load."""
    cluster = FluidCluster(busy(trace_sampling=1.0))
    cluster.reset(7)
    proportions = np.array([[0.5, 0.5], [0.9, 0.1]])
    cluster.apply(Plan(proportions=proportions))
    telemetry = cluster.advance(200.0)
    spans = telemetry.spans
    calls = np.bincount(spans["microservice"])
    assert calls[1] / calls[0] == pytest.approx(2.7, abs=4.0 * np.sqrt(0.21 / calls[0]))
    host = dict(zip(telemetry.container_id, telemetry.container_host, strict=True))
    of_b = spans["container"][spans["microservice"] == 1]
    assert np.mean([host[one] == 0 for one in of_b]) == pytest.approx(0.9, abs=0.02)


def test_requests_that_find_nobody_have_no_trace() -> None:
    """B's only container takes its time to start: until then, only requests that do not need it end well."""
    app = application({"a": microservice(1.0), "b": microservice(1.0)}, call("a", [call("b", probability=0.5)]))
    cluster = FluidCluster(scenario(app, 50.0, 1, trace_sampling=1.0, startup_s=60.0))
    cluster.reset(7)
    cluster.assume(np.array([0, 1]), np.array([0, 1]), np.array([0, 0]), np.array([True, False]), np.zeros((1, 4)))
    telemetry = cluster.advance(50.0)
    spans = telemetry.spans
    assert telemetry.failed[0] / telemetry.requests[0] == pytest.approx(0.5, abs=0.05)
    assert len(spans) == telemetry.requests[0] - telemetry.failed[0]
    assert set(spans["microservice"]) == {0} and set(spans["parent"]) == {-1}
    cluster.advance(10.0)
    spans = cluster.advance(20.0).spans
    assert np.bincount(spans["microservice"])[1] > 300


def test_late_requests_are_traced_and_rejected_ones_are_not() -> None:
    """As many traces as requests that were not rejected, in containers by the calls that these take.

    90 % of the calls go to a container of B that can do 100 of 144 a second; the other does its 16.
    """
    app = application(
        {"a": microservice(1.0), "b": microservice(10.0, workers=4, accept_queue=4)}, call("a", [call("b")])
    )
    hosts = Hosts(count=2, cores=100.0, memory_mb=1e6)
    cluster = FluidCluster(scenario(app, 160.0, {"a": 2, "b": 2}, hosts=hosts, trace_sampling=1.0))
    cluster.reset(7)
    cluster.apply(Plan(proportions=np.array([[0.5, 0.5], [0.9, 0.1]])))
    telemetry = cluster.advance(60.0)
    spans = telemetry.spans
    assert telemetry.failed[0] / telemetry.requests[0] == pytest.approx(44.0 / 160.0, rel=0.15)
    assert np.sum(spans["parent"] == -1) == telemetry.requests[0] - telemetry.failed[0]
    host = dict(zip(telemetry.container_id, telemetry.container_host, strict=True))
    of_b = spans["container"][spans["microservice"] == 1]
    assert np.mean([host[one] == 0 for one in of_b]) == pytest.approx(100.0 / 116.0, abs=0.03)

    late = app.model_copy(
        update={"request_classes": {"all": app.request_classes["all"].model_copy(update={"deadline_ms": 20.0})}}
    )
    cluster = FluidCluster(scenario(late, 50.0, {"a": 2, "b": 2}, hosts=hosts, trace_sampling=1.0))
    cluster.reset(7)
    telemetry = cluster.advance(60.0)
    assert telemetry.failed[0] > 100
    assert np.sum(telemetry.spans["parent"] == -1) == telemetry.requests[0]


def test_work_left_over_delays_traces() -> None:
    """Twice what one core does: after 10 s calls wait 10 s for what came before them, outside of their own latency."""
    app = application({"a": microservice(2.0), "b": microservice(10.0)}, call("a", [call("b")]))
    cluster = FluidCluster(scenario(app, 200.0, effects=neutral(), trace_sampling=1.0))
    cluster.reset(7)
    spans = cluster.advance(5.0).spans
    roots = spans[spans["parent"] == -1]
    lasted_s, early = roots["end_s"] - roots["start_s"], roots["end_s"] < roots["end_s"].mean()
    # From 5 s to 10 s since the start, each second leaves another second of work behind.
    assert lasted_s[early].mean() == pytest.approx(6.25, rel=0.1)
    assert lasted_s[~early].mean() == pytest.approx(8.75, rel=0.1)


def means(spans: NDArray[np.void], microservices: int, classes: int) -> dict[str, NDArray[np.float64]]:
    """Mean, median and p99 of own latency by microservice, and of whole requests by class; NaN of a few."""
    roots = spans[spans["parent"] == -1]
    lasted_ms = (roots["end_s"] - roots["start_s"]) * 1e3
    own = [spans["own_ms"][spans["microservice"] == m] for m in range(microservices)]
    whole = [lasted_ms[roots["request_class"] == c] for c in range(classes)]
    found = {}
    for name, values in (("own", own), ("whole", whole)):
        many = [one if len(one) > 500 else np.full(1, np.nan) for one in values]
        found[f"{name} mean"] = np.array([one.mean() for one in many])
        found[f"{name} median"] = np.array([np.median(one) for one in many])
        found[f"{name} p99"] = np.array([np.percentile(one, 99.0) for one in many])
    return found


@pytest.mark.parametrize("name", ["hotel-reservation", "social-network", "media-service", "train-ticket"])
def test_as_the_event_engine_traces(name: str) -> None:
    """Own latency of microservices and duration of requests within 15 % of the event engine's in the median."""
    seen = {}
    for engine in (EventCluster, FluidCluster):
        cluster = engine(load_scenario(f"{name}/high-strict", trace_sampling=0.5))
        cluster.reset(4000)
        seen[engine] = means(cluster.advance(60.0).spans, len(cluster.info.microservices), len(cluster.info.classes))
    for what, truth in seen[EventCluster].items():
        error = np.abs(seen[FluidCluster][what] / truth - 1.0)
        assert np.nanmedian(error) < 0.15, (what, error)


def test_an_agent_sees_critical_paths() -> None:
    """The mix, and that the front end goes with the total; nothing without traces."""

    def look(sampling: float) -> NDArray[np.float32]:
        setting = load_scenario("hotel-reservation/high-strict", engine="fluid", trace_sampling=sampling)
        env = gym.make("envs:imbres_gym/Cluster-v0", scenario=setting)
        first = env.reset(seed=4000)[0]["critical_path"]
        return np.array([first, env.step(env.action_space.sample())[0]["critical_path"]])

    assert not look(0.0).any()
    first, second = look(0.2)
    assert first[0, SHARE] == 1.0 and first[0, RI] > 0.3 and first[0, CI] > 1.0
    assert first[1, SHARE] == pytest.approx(0.60, abs=0.05)  # searches
    assert np.all(np.abs(first[:, RI]) <= 1.0)
    assert second[1, SHARE] == pytest.approx(0.60, abs=0.05) and second[0, RI] != first[0, RI]


def test_importance_and_congestion_point_to_the_same_microservices() -> None:
    """Firm's features rank the microservices of Social Network as those of the event engine's traces do."""
    seen = []
    for engine in (EventCluster, FluidCluster):
        cluster = engine(load_scenario("social-network/high-strict", trace_sampling=1.0))
        cluster.reset(4000)
        spans = cluster.advance(60.0).spans
        seen.append(path_features(critical_paths(spans, len(cluster.info.microservices))))
    known = (seen[0][:, CI] > 0.0) & (seen[1][:, CI] > 0.0)
    assert known.sum() > 10
    for column in (SHARE, RI, CI):
        ranks = [np.argsort(np.argsort(features[known, column])) for features in seen]
        assert np.corrcoef(*ranks)[0, 1] > 0.8, column
