"""What profiling promises: the call graph that is planned with, resumed and parallel runs alike, clear errors."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import gamma
from typer.testing import CliRunner

from imbres_gym.application import Application
from imbres_gym.cli import app
from imbres_gym.cluster import make_cluster
from imbres_gym.config import ConfigError, available, config_root
from imbres_gym.evaluation.executor import ProcessExecutor
from imbres_gym.profiling import design as design_module
from imbres_gym.profiling.design import Design, design_for
from imbres_gym.profiling.graph import class_graphs
from imbres_gym.profiling.measure import ENOUGH, Measurement, RunFailure, attempt, summarise
from imbres_gym.profiling.profile import Profile, find_profile, load_profile, save_profile
from imbres_gym.profiling.runner import RunStore, make_profile, run_profiling
from imbres_gym.scenario import Scenario, load_scenario
from imbres_gym.sim.workload import ReplayWorkload

APPLICATION: dict[str, Any] = {
    "name": "tiny",
    "container": {"cores": 0.2, "memory_mb": 100},
    "hop_ms": 0.1,
    "microservices": {
        "front": {"operations": {"ask": {"cpu_ms": 2}}},
        "back": {"operations": {"answer": {"cpu_ms": 1}}},
    },
    "stores": {
        "shelf": {"operations": {"get": 0.5}},
        "cellar": {"operations": {"get": 2.0}, "traced": False},
    },
    "request_classes": {
        "read": {
            "share": 1.0,
            "tree": {
                "call": "front/ask",
                "stages": [
                    [{"call": "back/answer", "repeat": 2}, {"call": "shelf/get"}],
                    [{"call": "shelf/get", "repeat": 3}, {"call": "shelf/get", "probability": 0.5}],
                    [{"call": "shelf/get", "probability": 0.05}],
                    [{"call": "back/answer", "probability": 0.04}],
                    [{"call": "cellar/get"}],
                ],
            },
        }
    },
}


class Serially:
    """Runs everything here, and stops after some."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Generator[tuple[int, Any], None, None]:
        for index, item in enumerate(items[: self._limit]):
            yield index, function(item)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario(
        name="tiny",
        application=Application.model_validate(APPLICATION),
        hosts={"count": 2, "cores": 8, "memory_mb": 4000},
        workload={"kind": "constant", "rps": 40},
        interference={"kind": "constant", "levels": [{"cpu": 0.1, "network": 0.2}, {"cpu": 0.5, "network": 0.4}]},
        sla_ms=50,
    )


@pytest.fixture(scope="module")
def design(scenario: Scenario) -> Design:
    return Design(scenario, levels=(0.1, 0.7), loads=(0.4, 1.2), seeds=(2000, 2001))


@pytest.fixture(scope="module")
def profile(design: Design) -> Profile:
    return make_profile(design, dict(enumerate(measured(attempt(run)) for run in design.runs())))


def measured(outcome: Measurement | RunFailure) -> Measurement:
    assert isinstance(outcome, Measurement)
    return outcome


def without_time(profile: Profile) -> dict[str, Any]:
    data = profile.model_dump()
    del data["cost"]["cpu_s"]
    return data


def test_the_graph_has_what_can_move_the_tail() -> None:
    (graph,) = class_graphs(Application.model_validate(APPLICATION), store_shape=9.0).values()
    # 2 + 0.04 calls of back a request; the stage that 4 % make is left out.
    assert graph.calls == pytest.approx({"front": 1.0, "back": 2.04})
    ((back,),) = graph.tree.stages
    assert (back.microservice, back.repeat, back.stages) == ("back", 2, ())
    # Three reads of the shelf, one after another; not the one beside back, nor the one that 5 % make, nor the cellar,
    # whose time the caller's own latency has.
    assert graph.tree.store_ms == pytest.approx(3 * 0.5 * gamma.ppf(0.95, 9.0) / 9.0)


def test_points_follow_the_design(design: Design, profile: Profile) -> None:
    points = profile.points
    assert points.grid == ((0.1, 0.1),) * 2 + ((0.1, 0.7),) * 2 + ((0.7, 0.1),) * 2 + ((0.7, 0.7),) * 2
    assert profile.network == pytest.approx(0.3)  # the mean of the scenario
    # 40 requests/s x 2 core-ms / (0.2 cores x 0.5) = 0.8 containers, and 0.816 of back.
    assert profile.replicas == (1, 1)
    for load, (front, back) in zip(points.load, points.load_rps, strict=True):
        assert front == pytest.approx(40.0 * load, rel=0.15)
        assert back == pytest.approx(2.04 * front, rel=0.1)
    for shown, (given, _) in zip(points.cpu, points.grid, strict=True):
        assert given < shown < given + 0.02  # and what the containers use
    assert points.memory_bandwidth == pytest.approx([bandwidth for _, bandwidth in points.grid])


def test_latency_grows_with_load_and_interference(profile: Profile) -> None:
    front = profile.column(profile.points.p95_ms, 0).reshape(2, 2, 2)  # CPU, memory bandwidth, load
    assert front[0, 0, 0] < front[0, 0, 1] < front[1, 1, 1]
    assert front[0, 0, 0] < front[1, 1, 0]


def test_cost_is_counted(profile: Profile) -> None:
    # 8 points x 2 repeats x 45 s, two containers.
    assert profile.cost.runs == 16
    assert profile.cost.simulated_hours == pytest.approx(0.2)
    assert profile.cost.container_hours == pytest.approx(0.4)
    assert profile.cost.cpu_s > 0.0


def test_another_recording_makes_another_profiling(scenario: Scenario, tmp_path: Path) -> None:
    file = tmp_path / "rates.txt"
    file.write_text("10\n")
    before = Design(scenario.model_copy(update={"workload": ReplayWorkload(file=file)})).fingerprint()
    moved = file.rename(tmp_path / "moved.txt")
    design = Design(scenario.model_copy(update={"workload": ReplayWorkload(file=moved)}))
    assert design.fingerprint() == before
    moved.write_text("20\n")
    assert design.fingerprint() != before


def test_an_interrupted_profiling_goes_on_to_the_same_profile(design: Design, profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "tiny.runs"
    run_profiling(design, RunStore(path, design.fingerprint(), False), Serially(5), lambda outcome: None)
    with path.open("a") as file:
        file.write('{"run": 5, "cpu": 0.')  # the process was killed while it wrote
    store = RunStore(path, design.fingerprint(), True)
    assert sorted(store.finished) == [0, 1, 2, 3, 4]
    seen: list[object] = []
    assert run_profiling(design, store, Serially(), seen.append) == []
    assert len(seen) == 11
    again = RunStore(path, design.fingerprint(), True)
    assert without_time(make_profile(design, again.finished)) == without_time(profile)


def test_worker_processes_give_the_same_profile(design: Design, profile: Profile, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "tiny.runs", design.fingerprint(), False)
    assert run_profiling(design, store, ProcessExecutor(1), lambda outcome: None) == []
    assert without_time(make_profile(design, store.finished)) == without_time(profile)


def test_failed_runs_are_told_and_the_others_kept(design: Design, tmp_path: Path) -> None:
    broken = replace(design, connections="none")
    store = RunStore(tmp_path / "tiny.runs", broken.fingerprint(), False)
    failures = run_profiling(broken, store, Serially(2), lambda outcome: None)
    assert [failure.split(":")[0] for failure in failures] == ["run 0", "run 1"]
    assert "KeyError" in failures[0] and store.finished == {}


def test_runs_of_another_design_are_not_mixed(design: Design, tmp_path: Path) -> None:
    path = tmp_path / "tiny.runs"
    RunStore(path, design.fingerprint(), False)
    with pytest.raises(ConfigError, match="--resume"):
        RunStore(path, design.fingerprint(), False)
    other = replace(design, seeds=(2000, 2005))
    with pytest.raises(ConfigError, match="another application"):
        RunStore(path, other.fingerprint(), True)


def test_a_profile_survives_its_file(profile: Profile, tmp_path: Path) -> None:
    path, again = tmp_path / "a.json.gz", tmp_path / "b.json.gz"
    save_profile(profile, path)
    save_profile(profile, again)
    assert load_profile(path) == profile
    assert path.read_bytes() == again.read_bytes()
    assert find_profile(str(path), ("front", "back")) == profile


def test_bad_profiles_are_explained(profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "tiny.json.gz"
    with pytest.raises(ConfigError, match="no such profile; make it again with: imbres-gym profile"):
        load_profile(path)
    save_profile(profile, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="imbres-gym profile"):
        load_profile(path)
    path.write_bytes(gzip.compress(b"[1, 2"))
    with pytest.raises(ConfigError, match="damaged"):
        load_profile(path)
    data = profile.model_dump(mode="json")
    for change, message in (
        ({"format": 99}, "format: 99"),
        ({"points": {**data["points"], "load": [1.0]}}, r"points\.load: has 1 values"),
        ({"seeds": "none"}, "seeds"),
    ):
        path.write_bytes(gzip.compress(json.dumps({**data, **change}).encode()))
        with pytest.raises(ConfigError, match=message):
            load_profile(path)


EVALUATED = sorted({name.split("/")[0] for name in available("scenarios") if name.endswith("/high-strict")})
"""The applications that agents are compared on: not that of the test bed."""


@pytest.mark.parametrize("connections", ["full", "random-10"])
@pytest.mark.parametrize("name", EVALUATED)
def test_shipped_profiles_are_those_of_the_shipped_applications(name: str, connections: str) -> None:
    path = config_root() / "profiles" / connections / f"{name}.json.gz"
    shipped, scenario = load_profile(path), load_scenario(f"{name}/high-strict")
    assert path.stat().st_size < 200_000
    assert shipped.microservices == scenario.application.microservice_names
    assert shipped.connections == connections
    assert shipped.graphs == class_graphs(scenario.application, scenario.effects.store_shape)
    assert min(shipped.seeds) >= 2000, "evaluation has the seeds below"


def test_the_command_writes_a_profile_and_refuses_to_overwrite_it(
    design: Design, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = replace(design, levels=(0.3,), seeds=(2000,))
    monkeypatch.setattr(design_module, "design_for", lambda application, connections: small)
    out = tmp_path / "tiny.json.gz"
    done = CliRunner().invoke(app, ["profile", "tiny", "--workers", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "container-hours" in done.output
    assert [file.name for file in tmp_path.iterdir()] == [out.name]
    assert load_profile(out).cost.runs == 2
    again = CliRunner().invoke(app, ["profile", "tiny", "--out", str(out)])
    assert again.exit_code == 2 and "exists already" in again.output


def test_unknown_names_are_explained() -> None:
    with pytest.raises(ConfigError, match="did you mean 'social-network/high-strict'"):
        design_for("socialnetwork")
    with pytest.raises(ConfigError, match="did you mean 'random-10'"):
        design_for("social-network", "random")


def test_a_class_with_few_requests_takes_the_share_of_all(design: Design) -> None:
    run = design.runs()[0]
    telemetry = make_cluster(run.scenario).reset(run.seed)
    busy = replace(
        telemetry,
        workload_rps=np.array([50.0]),
        requests=np.array([ENOUGH]),
        failed=np.array([20]),
        interval_s=ENOUGH / 50.0,
    )
    few = replace(
        busy,
        workload_rps=np.array([50.0, 0.5]),
        requests=np.array([ENOUGH, 4]),
        failed=np.array([20, 0]),
        latencies_ms=(*telemetry.latencies_ms, np.ones(4)),
    )
    assert summarise(busy, 0.0).answered == [0.8]
    assert summarise(few, 0.0).answered == pytest.approx([0.8, 84.0 / 101.0])
