"""`imbres-gym calibrate`: known curves are found again, and errors say where they are."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from imbres_gym.application import load_application
from imbres_gym.calibration import Fit, read_measurements
from imbres_gym.cli import app
from imbres_gym.config import ConfigError
from imbres_gym.scenario import load_scenario
from imbres_gym.sim.fluid.predict import own_latency

HEADER = "microservice,load_rps,cpu,mean_ms\n"


def write_known_curves(file: Path) -> None:
    """The latencies of geo if its operations needed 1.6 times their CPU, and it felt interference half as much."""
    hotel = load_application("hotel-reservation")
    geo = hotel.microservices["geo"]
    operations = {n: o.model_copy(update={"cpu_ms": o.cpu_ms * 1.6}) for n, o in geo.operations.items()}
    sensitivity = geo.sensitivity.model_copy(update={"cpu": 0.5})
    changed = geo.model_copy(update={"operations": operations, "sensitivity": sensitivity})
    truth = hotel.model_copy(update={"microservices": {**hotel.microservices, "geo": changed}})
    load, cpu = np.meshgrid(np.linspace(2.0, 40.0, 6), [0.1, 0.4, 0.7])
    interference = np.zeros((load.size, 4))
    interference[:, 0] = cpu.ravel()
    mean, p95 = own_latency(truth, "geo", load.ravel(), interference)
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["microservice", "load_rps", "cpu", "mean_ms", "p95_ms"])
        for row in zip(load.ravel(), cpu.ravel(), mean, p95, strict=True):
            writer.writerow(["geo", *(f"{value:.6g}" for value in row)])


def test_the_search_begins_inside_its_range_whatever_the_application_says(tmp_path: Path) -> None:
    write_known_curves(tmp_path / "measured.csv")
    application = load_application("hotel-reservation").model_dump(mode="json")
    application["microservices"]["geo"]["sensitivity"]["cpu"] = 4.0
    (tmp_path / "steep.yaml").write_text(yaml.safe_dump(application), encoding="utf-8")
    out = tmp_path / "mine.yaml"
    arguments = ["calibrate", str(tmp_path / "measured.csv"), "--application", str(tmp_path / "steep.yaml")]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert load_application(out).microservices["geo"].sensitivity.cpu == pytest.approx(0.5, abs=0.05)


def test_a_fit_at_the_edge_of_the_search_is_in_doubt(tmp_path: Path) -> None:
    assert Fit("geo", 2, demand=1.0, sensitivity=0.5, before=1.4, after=1.1).doubt == ""
    assert "no smaller than before" in Fit("geo", 2, demand=1.0, sensitivity=0.5, before=1.1, after=1.2).doubt
    text = "microservice,load_rps,cpu,mean_ms\ngeo,20,0.1,0.001\n"
    (tmp_path / "one.csv").write_text(text, encoding="utf-8")
    out = ["--out", str(tmp_path / "mine.yaml")]
    command = ["calibrate", str(tmp_path / "one.csv"), "--application", "hotel-reservation", *out]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "doubtful: geo: its" in result.output and "at the edge" in result.output


def test_known_curves_are_found_again(tmp_path: Path) -> None:
    """Demand x 1.6 and sensitivity 0.5; a scenario can name the result."""
    write_known_curves(tmp_path / "measured.csv")
    out = tmp_path / "mine.yaml"
    arguments = ["calibrate", str(tmp_path / "measured.csv"), "--application", "hotel-reservation", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "geo" in result.output and "x 1.60" in result.output and "frontend" in result.output
    fitted, before = load_application(out), load_application("hotel-reservation")
    geo = fitted.microservices["geo"]
    assert geo.sensitivity.cpu == pytest.approx(0.5, abs=0.05)
    for name, operation in geo.operations.items():
        assert operation.cpu_ms == pytest.approx(1.6 * before.microservices["geo"].operations[name].cpu_ms, rel=0.02)
    assert fitted.microservices["rate"] == before.microservices["rate"]
    named = load_scenario("hotel-reservation/high-strict", application=str(out), engine="fluid")
    assert named.application == fitted
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "exists already" in again.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "geo,1,0.5,x\n", r"measured.csv:2: mean_ms: 'x' is not a number"),
        (HEADER + "geo,1,0.5,3\ngeo,1,1.5,3\n", r"measured.csv:3: cpu: '1.5' must be at least 0 and at most 1"),
        (HEADER + "gio,1,0.5,3\n", r"measured.csv:2: microservice: .*'gio'; did you mean 'geo'"),
        (HEADER + "geo,1,0.5,0\n", r"measured.csv:2: neither mean_ms nor p95_ms"),
        (HEADER + "geo,1,0.5,3,4\n", r"measured.csv:2: more values than columns"),
        (HEADER, "no rows"),
        ("microservice,load_rps,cpu\n", "no column with latencies"),
        ("microservice,cpu,mean_ms\n", "the column 'load_rps' is missing"),
        ("microservice,load_rps,cpus,mean_ms\n", "unknown column 'cpus'; did you mean 'cpu'"),
    ],
)
def test_errors_name_file_row_and_column(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "measured.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_measurements(file, load_application("hotel-reservation"))
