"""Scenarios: the shipped ones say what the paper says, own ones work from anywhere, wrong ones are refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imbres_gym.application import load_application
from imbres_gym.artifacts import scenario_label
from imbres_gym.config import ConfigError, available, config_root, read_yaml
from imbres_gym.scenario import Scenario, load_scenario, parse_duration

STATIC = [f"{imbalance}-{sla}" for imbalance in ("high", "low") for sla in ("slack", "strict")]
DYNAMIC = ["dynamic-slack", "dynamic-strict"]
APPLICATIONS = ("hotel-reservation", "media-service", "social-network", "train-ticket")
OTHERS = ("alibaba/small", "bed-chain/noisy-node", "bed-chain/quiet", "hotel-reservation/training")


def base() -> dict[str, Any]:
    return read_yaml(config_root() / "scenarios" / "social-network" / "high-strict.yaml")


def write(path: Path, data: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def test_the_shipped_scenarios() -> None:
    expected = [f"{app}/{name}" for app in APPLICATIONS for name in sorted([*STATIC, *DYNAMIC])]
    assert available("scenarios") == sorted([*expected, *OTHERS])


@pytest.mark.parametrize("application", APPLICATIONS)
def test_static_scenarios_are_those_of_the_paper(application: str) -> None:
    """Section 6.1: rates, hosts, 35 % of best-effort jobs, and more or less than 30 points between hosts."""
    train_ticket = application == "train-ticket"
    for name in STATIC:
        scenario = load_scenario(f"{application}/{name}")
        assert scenario.name == f"{application}/{name}"
        assert scenario.application.name == application
        assert scenario.workload.rate(0.0) == (200.0 if train_ticket else 1200.0)
        assert (scenario.hosts.count, scenario.hosts.cores) == (16 if train_ticket else 4, 100.0)
        assert (scenario.control_interval_s, scenario.scaling_interval_s) == (5.0, 60.0)
        levels = np.array([level.as_row() for level in scenario.interference.levels])
        assert levels.mean(axis=0) == pytest.approx([0.35] * 4)
        assert levels.min() >= 0.10
        assert levels.max() <= 0.70
        spread = float(np.ptp(levels[:, 0]))
        assert spread > 0.30 if name.startswith("high") else spread < 0.30
        slack, strict = ((1500, 2000), (1000, 1500)) if train_ticket else ((300, 500), (100, 300))
        low, high = strict if name.endswith("strict") else slack
        assert low < scenario.sla_ms < high


@pytest.mark.parametrize("application", APPLICATIONS)
def test_the_containers_at_the_start_are_of_the_order_of_a_hundred(application: str) -> None:
    total = sum(load_scenario(f"{application}/high-strict").replicas_at_start().values())
    assert 100 <= total <= 300


@pytest.mark.parametrize("application", APPLICATIONS)
def test_the_dynamic_load_stays_under_the_static_one_over_an_hour(application: str) -> None:
    scenario = load_scenario(f"{application}/dynamic-strict")
    static = load_scenario(f"{application}/high-strict").workload.rate(0.0)
    rates = [scenario.workload.rate(t) for t in range(int(scenario.duration))]
    assert scenario.duration == 3600.0
    assert max(rates) == pytest.approx(static)
    assert 0.0 < min(rates) < 0.4 * static


@pytest.mark.parametrize("name", ["social-network/high-strict", "train-ticket/dynamic-slack"])
def test_a_scenario_survives_round_trips(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    assert load_scenario(write(tmp_path / "again.yaml", scenario.model_dump(mode="json"))) == scenario
    assert pickle.loads(pickle.dumps(scenario)) == scenario


def test_replicas_put_the_demand_at_the_wanted_share_of_the_quota() -> None:
    scenario = load_scenario(
        "social-network/high-strict", initial_replicas={"text-service": 7}, initial_utilisation=0.5
    )
    counts = scenario.replicas_at_start()
    application = scenario.application
    assert counts["text-service"] == 7
    for name in ("nginx-thrift", "post-storage-service"):
        idle = application.microservices[name].idle_cores
        cores = 1.2 * application.cpu_ms_per_request()[name]
        assert cores / counts[name] + idle <= 0.5 * application.cores_of(name)
        assert cores / (counts[name] - 1) + idle > 0.5 * application.cores_of(name)


def test_keywords_override_keys_of_a_file_and_of_a_scenario() -> None:
    scenario = load_scenario("social-network/high-strict", sla_ms=250, duration="10m")
    assert (scenario.sla_ms, scenario.duration) == (250.0, 600.0)
    again = load_scenario(scenario, seed=3, application="media-service")
    assert (again.seed, again.sla_ms, again.application.name) == (3, 250.0, "media-service")
    assert load_scenario(scenario) is scenario
    with pytest.raises(ConfigError, match="sla: unknown key; did you mean 'sla_ms'"):
        load_scenario(scenario, sla=3)
    with pytest.raises(ConfigError, match="sla: unknown key; did you mean 'sla_ms'"):
        load_scenario("social-network/high-strict", sla=3)


def test_a_user_s_application_and_traces_lie_relative_to_the_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = load_application("media-service").model_dump(mode="json") | {"name": "mine"}
    write(tmp_path / "apps" / "mine.yaml", application)
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "rate.txt").write_text("10\n20\n", encoding="utf-8")
    (tmp_path / "traces" / "hosts.csv").write_text("time_s,host,cpu\n0,a,0.2\n60,a,0.4\n", encoding="utf-8")
    path = write(
        tmp_path / "scenarios" / "mine.yaml",
        base()
        | {
            "application": "../apps/mine.yaml",
            "workload": {"kind": "replay", "file": "../traces/rate.txt"},
            "interference": {"kind": "replay", "file": "../traces/hosts.csv"},
        },
    )
    monkeypatch.chdir("/")
    scenario = load_scenario(path)
    assert scenario.application.name == "mine"
    assert [scenario.workload.rate(t) for t in (0.0, 1.0, 2.0)] == [10.0, 20.0, 10.0]
    assert scenario.interference.path(1, 2, 60.0, np.random.default_rng(0))[:, 0, 0].tolist() == [0.2, 0.2]
    assert load_scenario(write(tmp_path / "elsewhere" / "again.yaml", scenario.model_dump(mode="json"))) == scenario
    absolute = write(tmp_path / "b.yaml", base() | {"application": str(tmp_path / "apps" / "mine.yaml")})
    assert load_scenario(absolute).application.name == "mine"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"slams": 3}, "slams: unknown key; did you mean 'sla_ms'?"),
        ({"sla_ms": "200ms"}, "sla_ms: must be a number, without a unit (got '200ms')"),
        ({"sla_ms": float("nan")}, "sla_ms: Input should be a finite number (got nan)"),
        ({"sla_ms": 0}, "sla_ms: Input should be greater than 0 (got 0)"),
        ({"workload": {"kind": "constnt"}}, "workload.kind: there is no kind 'constnt'; did you mean 'constant'?"),
        ({"workload": {"rps": 3}}, "workload.kind: missing; known: constant, step, diurnal, replay"),
        ({"workload": {"kind": "constant", "rps": -1}}, "workload.rps: Input should be greater than or equal to 0"),
        ({"workload": {"kind": "constant", "rps": float("inf")}}, "workload.rps: Input should be a finite number"),
        ({"workload": {"kind": "replay", "file": "no.txt"}}, "no.txt: there is no such file (workload.file)"),
        ({"interference": {"kind": "replay", "file": "no.csv"}}, "no.csv: there is no such file (interference.file)"),
        ({"interference": {"kind": "constant", "levels": []}}, "interference.levels: List should have at least 1 item"),
        (
            {"interference": {"kind": "constant", "levels": [{"cpu": 1.5}]}},
            "interference.levels.0.cpu: Input should",
        ),
        (
            {"hosts": {"count": 0, "cores": 4, "memory_mb": 1}},
            "hosts.count: Input should be greater than or",
        ),
        (
            {"hosts": {"count": 4, "cores": 0.09, "memory_mb": 9e9}},
            "hosts: 132 containers of 'nginx-thrift' (0.1 cores",
        ),
        ({"hosts": {"count": 4, "cores": 1, "memory_mb": 300}}, "4 hosts of 1 cores and 300 MB hold 4; more or larger"),
        (
            {"initial_utilisation": 0.5, "hosts": {"count": 4, "cores": 3, "memory_mb": 9e9}},
            "hosts: the initial containers need 16.9 cores",
        ),
        (
            {"initial_utilisation": 0.5, "hosts": {"count": 4, "cores": 9, "memory_mb": 6000}},
            "hosts: the initial containers need 33800 MB",
        ),
        ({"initial_replicas": {"nginx": 3}}, "initial_replicas.nginx: no microservice 'nginx'; known: compose-post-se"),
        ({"initial_replicas": {"nginx-thrift": 300}}, "initial_replicas.nginx-thrift: 300 is outside min_replicas"),
        ({"min_replicas": 9, "max_replicas": 3}, "min_replicas: 9 is more than max_replicas (3)"),
        ({"duration": "7s"}, "duration: 7 must be a multiple of control_interval_s (5)"),
        ({"scaling_interval_s": 7}, "scaling_interval_s: 7 must be a multiple of control_interval_s (5)"),
        ({"duration": "3x"}, "duration: not a duration; write for example 90s, 30m or 1h (got '3x')"),
        ({"engine": "event"}, "engine: Input should be 'events' or 'fluid' (got 'event')"),
        ({"effects": {"delay": 3}}, "effects.delay: unknown key; did you mean 'delay_ms'?"),
        ({"application": "social-netwrk"}, "application: there is no application 'social-netwrk'; did you mean"),
        ({"application": "mine.yaml"}, "mine.yaml: there is no such file"),
        ({"application": 3}, "application: Input should be a valid dictionary"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: dict[str, Any], line: str) -> None:
    path = write(tmp_path / "x.yaml", base() | change)
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    assert str(caught.value).startswith(str(path))
    assert line in str(caught.value)


def test_whole_containers_must_fit_on_whole_hosts() -> None:
    """Three containers of 0.6 cores need 1.8 of 2 cores, but two hosts of one core hold one each."""
    application = load_application("media-service").model_dump()
    application["container"] = {"cores": 0.6, "memory_mb": 1}
    one = {name: 1 for name in application["microservices"]}
    hosts = {"count": 12, "cores": 1, "memory_mb": 1000}
    tiny = {"kind": "constant", "rps": 1}
    fits = {"hosts": hosts, "workload": tiny, "application": application}
    load_scenario("media-service/high-strict", **fits, initial_replicas=one)
    with pytest.raises(ConfigError, match=r"13 containers of 'text-service'.* hold 12"):
        load_scenario("media-service/high-strict", **fits, initial_replicas=one | {"text-service": 13})


def test_an_error_in_the_application_names_both_files(tmp_path: Path) -> None:
    broken = load_application("media-service").model_dump(mode="json") | {"hop": 3}
    write(tmp_path / "mine.yaml", broken)
    path = write(tmp_path / "x.yaml", base() | {"application": "mine.yaml"})
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    assert str(path) in str(caught.value)
    assert f"{tmp_path / 'mine.yaml'}:\n  hop: unknown key; did you mean 'hop_ms'?" in str(caught.value)


def test_application_is_required(tmp_path: Path) -> None:
    data = base()
    data.pop("application")
    with pytest.raises(ConfigError, match="application: missing"):
        load_scenario(write(tmp_path / "x.yaml", data))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), (" 1.5 m ", 90.0), ("1h", 3600.0), (5, 5.0), (0.5, 0.5)]
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["", "s", "-3s", "1d", "1h30m", 0, -1, "0m", None, [], float("nan"), float("inf")])
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(value)


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_a_number_of_seconds_is_a_duration(seconds: float) -> None:
    assert parse_duration(seconds) == seconds


def test_scenarios_are_frozen() -> None:
    scenario: Scenario = load_scenario("social-network/high-strict")
    with pytest.raises(ValueError, match="frozen"):
        scenario.sla_ms = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("reference", "label"),
    [
        ("social-network/high-strict", "social-network/high-strict"),
        ("mine/busy.yaml", "busy"),
        ("runs/large/scenario.yaml", "large"),
        ("scenario.yaml", "scenario"),
    ],
)
def test_a_scenario_is_called_like_its_file_or_the_folder_that_is_its_own(reference: str, label: str) -> None:
    assert scenario_label(reference) == label
