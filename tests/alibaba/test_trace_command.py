"""`imbres-gym trace`: what it says, what it writes, and that Ctrl-C costs no finished file."""

from __future__ import annotations

from pathlib import Path

import pytest
import trace_files
from typer.testing import CliRunner, Result

from imbres_gym.alibaba import digest as digesting
from imbres_gym.alibaba.generated import generated_scenario
from imbres_gym.alibaba.generator import generate
from imbres_gym.cli import app
from imbres_gym.cli.errors import INTERRUPTED, WRONG_INPUT
from imbres_gym.scenario import load_scenario


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, ["trace", *words], env={"COLUMNS": "200"})


def test_summary_of_a_download() -> None:
    trace_files.write_download(Path("data"), "v2021", ".tar.gz")
    result = invoke("summary", "data")
    assert result.exit_code == 0, result.output
    assert "hosts: 80 rows in 1 files" in result.output
    assert "calls: 280 rows in 2 files" not in result.output
    assert "autocorrelation after a minute" in result.output


def test_malformed_rows_are_reported() -> None:
    header, *rows = trace_files.table("v2021", "Node").splitlines()
    trace_files.write(Path("data"), "Node", "\n".join([header, *rows, "1,h", "2"]), ".csv")
    assert "2 malformed and left out" in invoke("summary", "data").output


def test_a_scenario_from_a_download() -> None:
    trace_files.write_download(Path("data"), "v2022", ".csv.gz")
    result = invoke("scenario", "data", "--out", "mine", "--hosts", "4", "--rps", "40")
    assert result.exit_code == 0, result.output
    assert (
        "2 of 2 services, 5 microservices (CPU demand of 4 from the trace), 4 hosts, 40.0 requests/s" in result.output
    )
    assert load_scenario("mine/scenario.yaml").hosts.count == 4
    assert "cluster-trace-microservices-v2022" in Path("mine/scenario.yaml").read_text()


def test_what_is_wrong_is_said_before_anything_is_read() -> None:
    trace_files.write_download(Path("data"), "v2022")
    Path("mine").mkdir()
    Path("mine/scenario.yaml").touch()
    result = invoke("scenario", "data", "--out", "mine")
    assert result.exit_code == WRONG_INPUT
    assert "exists already" in result.output
    assert not Path("runs").exists()


def test_ctrl_c_keeps_finished_files(monkeypatch: pytest.MonkeyPatch) -> None:
    trace_files.write_download(Path("data"), "v2021")
    read = digesting.read_blocks

    def interrupted(part: object) -> object:
        if part.file.name == "MSRTQps_0.csv":  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return read(part)  # type: ignore[arg-type]

    monkeypatch.setattr(digesting, "read_blocks", interrupted)
    result = invoke("summary", "data")
    assert result.exit_code == INTERRUPTED
    assert "the same command goes on" in result.output
    assert len(list(Path("runs/traces/data").glob("*.json"))) == 2


def test_a_generated_scenario_is_what_its_seed_says() -> None:
    result = invoke("generate", "--microservices", "30", "--hosts", "8", "--seed", "3", "--out", "mine")
    assert result.exit_code == 0, result.output
    written = load_scenario("mine/scenario.yaml")
    generated = generated_scenario(generate(30, 8, 3))
    assert written.model_copy(update={"name": generated.name}) == generated


def test_the_shipped_one_is_what_its_first_lines_say() -> None:
    shipped = load_scenario("alibaba/small")
    assert shipped.name == "alibaba/small"
    generated = generated_scenario(generate(40, 20, 0, 200))
    assert shipped.model_copy(update={"name": generated.name}) == generated


def test_too_few_containers_is_wrong_input() -> None:
    result = invoke("generate", "--microservices", "30", "--containers", "5", "--out", "mine")
    assert result.exit_code == WRONG_INPUT
    assert "--containers 5: must be at least 30" in result.output
