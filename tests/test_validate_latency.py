"""The validation script on synthetic surfaces: what it reads, how it predicts, what it reports."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from imbres_gym.application import load_application
from imbres_gym.config import ConfigError

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("app", "service", "microservice", "cpuInter_cores", "memInter_MiB", "rps_per_container", "p95_latency_us")
REVIEW = (
    *("compose-review-service", "movie-id-service", "movie-review-service", "rating-service"),
    *("review-storage-service", "text-service", "unique-id-service", "user-review-service", "user-service"),
)
LOADS = (20.0, 40.0, 60.0)
"""End-user requests/s at one, two and three clients of the tiny deployment."""


def load_script() -> ModuleType:
    """The script as a module; it must be registered before it runs, because its dataclasses look themselves up."""
    spec = importlib.util.spec_from_file_location("validate_latency", ROOT / "scripts" / "validate_latency.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


script = load_script()


def write_surfaces(folder: Path, rows: Iterable[tuple[Any, ...]], columns: tuple[str, ...] = COLUMNS) -> Path:
    """A CSV file in Erms' format."""
    folder.mkdir(parents=True, exist_ok=True)
    path: Path = folder / script.SURFACES
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Profiles of an application of two microservices: `a` on two containers, and `b`, which the data call `bee`."""
    operation = {"operations": {"work": {"cpu_ms": 1.0}}}
    tree = {"call": "a/work", "stages": [[{"call": "b/work"}]]}
    application = {
        "name": "tiny",
        "container": {"cores": 0.1, "memory_mb": 100},
        "hop_ms": 0.1,
        "microservices": {"a": operation, "b": operation},
        "request_classes": {"get": {"share": 0.5, "tree": tree}, "other": {"share": 0.5, "tree": {"call": "b/work"}}},
    }
    profile = {
        **{"application": "tiny.yaml", "client_spans": False, "request_class": "get", "source": "made up"},
        **{"replicas": {"a": 2}, "names": {"bee": "b"}, "connections": 2, "clients": 3},
    }
    cluster = {"hosts": 2, "cores": 4, "memory_mb": 1000, "hop_ms": 0.5}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(application))
    path = tmp_path / "profiles.yaml"
    path.write_text(yaml.safe_dump({"cluster": cluster, "profiles": {"Get": profile}}))
    return path


def tiny_deployment(tiny: Path, rps: float, clients: int, cpu_cores: float = 0.0) -> Any:
    """The scenario of the tiny profile."""
    profiles = script.load_profiles(tiny)
    application = load_application(tiny.parent / "tiny.yaml")
    return script.deployment(application, profiles.profiles["Get"], profiles.cluster, rps, clients, cpu_cores)


def test_surface_made_by_the_engine_is_predicted_exactly(tiny: Path, tmp_path: Path) -> None:
    """Loads, replicas, names, units and interference all mean the same to the reader and to the prediction."""
    rows = []
    for cpu_cores in (0.4, 1.6):
        for clients, rps in enumerate(LOADS, start=1):
            p95_ms = script.own_p95_ms(tiny_deployment(tiny, rps, clients, cpu_cores), seed=0)
            for name, ours, containers in (("a", "a", 2), ("bee", "b", 1)):
                rows.append(("tiny", "Get", name, cpu_cores, 500, rps / containers, p95_ms[ours] * 1000.0))
    curves = script.run(write_surfaces(tmp_path, rows).parent, tmp_path / "out", tiny, None, 0)
    assert [(c.measured.microservice, c.measured.cpu_cores) for c in curves] == [
        *(("a", 0.4), ("bee", 0.4), ("a", 1.6), ("bee", 1.6)),
    ]
    np.testing.assert_allclose(script.errors(curves), np.zeros(12), atol=1e-9)
    by_name = {(c.measured.microservice, c.measured.cpu_cores): c.predicted_ms for c in curves}
    assert np.all(by_name["bee", 1.6] > by_name["bee", 0.4])


def test_deployment_is_that_of_the_profile(tiny: Path) -> None:
    """One class alone, in the measured cluster, behind a load generator with as many workers as connections."""
    scenario = tiny_deployment(tiny, rps=40.0, clients=2, cpu_cores=1.0)
    application = scenario.application
    assert application.calls_per_request() == {"a": 1.0, "b": 1.0, script.LOAD_GENERATOR: 1.0}
    assert application.microservices[script.LOAD_GENERATOR].workers == 4
    assert (application.hop_ms, application.client_spans) == (0.5, False)
    assert scenario.initial_replicas == {"a": 2, "b": 1, script.LOAD_GENERATOR: 1}
    assert scenario.interference.levels[0].cpu == 0.25


def test_outstanding_requests_limit_the_latency_of_overload(tiny: Path) -> None:
    """Twice the load that `b` can serve: its requests wait for each other, and at most the connections do (Little)."""
    few, many = (script.own_p95_ms(tiny_deployment(tiny, 200.0, clients), seed=0)["b"] for clients in (1, 50))
    assert few < 2 * 100.0 / 2 and many > 5.0 * few


def test_reader_drops_nginx_and_takes_the_median_over_memory(tmp_path: Path) -> None:
    """Loads come out in rising order, latencies in ms."""
    rows = [("x", "Get", "a", 0.5, memory, 7.0, p95) for memory, p95 in ((500, 1000), (1500, 4000), (3000, 2000))]
    rows += [("x", "Get", "a", 0.5, 500, 3.5, 500), ("x", "Get", "nginx-web-server", 0.5, 500, 7.0, 1000)]
    (curve,) = script.read_surfaces(write_surfaces(tmp_path, rows))
    assert curve.load_rps.tolist() == [3.5, 7.0] and curve.p95_ms.tolist() == [0.5, 2.0]


@pytest.mark.parametrize(
    ("p95_ms", "knee"),
    [
        ([1, 1, 1, 2, 2, 2, 2, 2, 2, 2], None),
        ([1, 1, 1, 1, 1, 1, 5, 9, 30, 90], 7.0),
        ([1, 1, 1, 5, 1, 1, 1, 1, 30, 90], 9.0),
    ],
)
def test_knee_is_where_the_latency_leaves_that_of_low_load_for_good(p95_ms: list[float], knee: float | None) -> None:
    """Three times the latency of low load; one outlier is no wall."""
    assert script.knee_rps(np.arange(1.0, 11.0), np.array(p95_ms, dtype=float)) == knee


def test_regions_and_errors_follow_the_measured_knee() -> None:
    """The knee of this curve is at 7 requests/s: 5.6 to 8.75 is around it."""
    p95_ms = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 5.0, 9.0, 30.0, 90.0])
    measured = script.Measured("x", "Get", "a", 0.5, np.arange(1.0, 11.0), p95_ms)
    curve = script.Curve(measured, 2.0 * p95_ms)
    assert curve.regions.tolist() == ["below"] * 5 + ["around"] * 3 + ["above"] * 2
    np.testing.assert_allclose(script.errors([curve], "around"), np.log(2.0))
    last = list(script.summary_rows([curve]))[-1]
    assert last[2:8] == ["10", "0.69", "+0.69", "0.69", "0.69", "0.69"]


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        (("x", "Get", "a", 0.5, 500, 7.0, "fast"), COLUMNS, ":2: column p95_latency_us: must be a number"),
        (("x", "Get", "a", 0.5, 500, 0.0, 100), COLUMNS, ":2: column rps_per_container: must be a number"),
        (("x", "Get", "a", 0.5, 500, 7.0, 100), (*COLUMNS[:-1], "p95_us"), ": column p95_latency_us is missing"),
        (
            ("x", "Gets", "a", 0.5, 500, 7.0, 100),
            COLUMNS,
            "column service: there is no profile of 'Gets'; did you mean 'Get'?",
        ),
        (("x", "Get", "c", 0.5, 500, 7.0, 100), COLUMNS, "column microservice: Get calls no 'c'; known: a, b"),
        (("x", "Get", "nginx", 0.5, 500, 7.0, 100), COLUMNS, "column service: there are no rows besides nginx"),
    ],
)
def test_errors_name_file_and_column(
    row: tuple[Any, ...], columns: tuple[str, ...], message: str, tiny: Path, tmp_path: Path
) -> None:
    """Before anything is simulated."""
    path = write_surfaces(tmp_path, [row], columns)
    with pytest.raises(ConfigError) as error:
        script.run(tmp_path, tmp_path / "out", tiny, None, 0)
    assert str(path) in str(error.value) and message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_command_line_ends_with_the_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No traceback for a missing file."""
    monkeypatch.setattr(sys, "argv", ["validate_latency.py", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=f"{script.SURFACES}: cannot be read"):
        script.main()


def test_every_shipped_profile_can_be_deployed() -> None:
    """Applications, request classes and replicas of the shipped file exist and fit the cluster."""
    profiles = script.load_profiles(script.PROFILES)
    for profile in profiles.profiles.values():
        application = script.read_application(profile, script.PROFILES.parent)
        scenario = script.deployment(application, profile, profiles.cluster, 10.0, profile.clients, 1.0)
        assert set(profile.replicas) <= set(application.microservices)
        assert scenario.application.class_names == (profile.request_class,)


def test_older_social_network_shares_its_framework_with_the_shipped_one() -> None:
    """What is calibrated per framework must not drift apart."""
    older = load_application(script.PROFILES.parent / "social-network-2019.yaml")
    assert older.span_share == load_application("social-network").span_share


def test_compose_review_is_validated_when_its_rows_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out Media application, from the shipped profiles, through to points, summary and figure."""
    monkeypatch.setattr(script, "REPEATS", 1)
    monkeypatch.setattr(script, "CLIENTS", (2, 10))
    rows = [
        ("media-microsvc", "ComposeReview", name, 0.3, 500, rps, 1000.0 + rps) for name in REVIEW for rps in (5.0, 20.0)
    ]
    rows.append(("media-microsvc", "ComposeReview", "nginx", 0.3, 500, 20.0, 1000.0))
    out = tmp_path / "out"
    script.run(write_surfaces(tmp_path / "data", rows).parent, out, script.PROFILES, ["ComposeReview"], 0)
    with (out / "validation-points.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert [(point["microservice"], float(point["rps_per_container"])) for point in points] == [
        (name, rps) for name in REVIEW for rps in (5.0, 20.0)
    ]
    assert all(0.0 < float(point["predicted_p95_ms"]) < 1000.0 for point in points)
    assert len((out / "validation-summary.md").read_text().splitlines()) == 2 + len(REVIEW) + 2
    assert (out / "validation-erms.png").read_bytes().startswith(b"\x89PNG")
