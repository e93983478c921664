"""`imbres-gym live` from the command line, against the fakes: runs, refusals, exit codes and pipes."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_bed import NAMES, Bed
from typer.testing import CliRunner, Result

from imbres_gym.agent import AgentConfig, load_agent_config, make_agent
from imbres_gym.cli import app
from imbres_gym.live import run
from imbres_gym.live.stop import SIGNALS
from imbres_gym.telemetry import ClusterInfo

FAST = {"control_interval_s": 0.05, "scaling_interval_s": 0.1, "agent": "ls-fc"}
ROOT = Path(__file__).resolve().parents[3]


def arguments(bed: Bed, *more: str, **changes: Any) -> list[str]:
    kubeconfig = str(bed.kubernetes.kubeconfig(bed.folder))
    config = str(bed.config_file(**{**FAST, **changes}))
    return ["--config", config, "--context", "bed", "--kubeconfig", kubeconfig, *more]


def live(*words: str) -> Result:
    return CliRunner().invoke(app, ["live", *words])


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_decision_is_one_line_and_the_cluster_is_given_back(bed: Bed) -> None:
    out = bed.folder / "out"
    result = live(*arguments(bed, "--duration", "0.5s", "--out", str(out)))
    assert result.exit_code == 0, result.output
    lines = events(result.stdout)
    assert [lines[0]["event"], lines[-1]["event"]] == ["start", "stop"]
    assert {line["event"] for line in lines[1:-1]} == {"decision"}
    assert {line["outcome"] for line in lines[1:-1]} == {"applied"}
    assert len(lines) == 2 + 9
    assert lines[-1]["left"] == "restore"
    assert [bed.replicas(name) for name in NAMES] == [3, 3, 3]
    (run,) = out.iterdir()
    assert (run / "journal.jsonl").read_text() == result.stdout
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))


def test_load_moves_away_from_the_slow_node(bed: Bed) -> None:
    bed.own_s["node-a"] = 0.03
    result = live(*arguments(bed, "--duration", "1s"))
    last = [line for line in events(result.stdout) if line["event"] == "decision"][-1]
    assert last["proportions"]["cart"]["node-a"] < 0.2


def test_a_dry_run_writes_nothing(bed: Bed) -> None:
    result = live(*arguments(bed, "--duration", "0.3s", "--dry-run"))
    assert result.exit_code == 0
    assert {line["outcome"] for line in events(result.stdout) if line["event"] == "decision"} == {"dry-run"}
    assert bed.kubernetes.writes == []


def test_a_controller_has_decided_for_itself_before_it_leads(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled at the first decision must not keep one waiting that leads already."""
    writes_before: list[int] = []

    def watched(*words: Any) -> Any:
        agent = make_agent(*words)
        predict = agent.predict

        def watch(*inputs: Any, **options: Any) -> Any:
            writes_before.append(len(bed.kubernetes.writes))
            return predict(*inputs, **options)

        monkeypatch.setattr(agent, "predict", watch)
        return agent

    monkeypatch.setattr(run, "make_agent", watched)
    result = live(*arguments(bed, "--duration", "0.2s"))
    decisions = sum(line["event"] == "decision" for line in events(result.stdout))
    rehearsed = len(writes_before) - decisions
    assert decisions > 0 and rehearsed >= 2
    assert set(writes_before[:rehearsed]) == {0} and min(writes_before[rehearsed:]) > 0


def test_a_rehearsal_is_short_and_keeps_its_measurements_to_itself(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float, dict[str, Any]]] = []

    def watched(config: AgentConfig, info: ClusterInfo, *words: Any) -> Any:
        seen.append((info.control_interval_s, info.scaling_interval_s, config.options["table"]))
        if len(seen) > 1:
            raise KeyboardInterrupt
        return make_agent(config, info, *words)

    monkeypatch.setattr(run, "make_agent", watched)
    options = {**load_agent_config("ls-fc").options, "table": {"redis": "redis://127.0.0.1:1/0", "bins": 10}}
    agent = bed.folder / "shared.yaml"
    agent.write_text(yaml.safe_dump({"name": "shared", "scaling_interval_s": 15, "options": options}))
    live(*arguments(bed, control_interval_s=5, scaling_interval_s=60, agent=str(agent)))
    assert seen == [(0.05, 0.05, {"bins": 10}), (5.0, 15.0, options["table"])]


def test_what_is_wrong_is_said_before_the_rehearsal(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "make_agent", lambda *words: pytest.fail("rehearsed"))
    (bed.folder / "odd.yaml").write_text(yaml.safe_dump({"name": "odd", "scaling_interval_s": 0.07}))
    with socket.create_server(("", 0)) as taken:
        results = [
            live(*arguments(bed, **change))
            for change in ({"agent": "odd.yaml"}, {"metrics_port": taken.getsockname()[1]})
        ]
    assert [result.exit_code for result in results] == [2, 2]
    assert "scaling_interval_s" in results[0].output
    assert "metrics_port" in results[1].output


@pytest.mark.parametrize("rehearsed", [False, True], ids=["rehearsal", "run"])
def test_a_signal_that_is_lost_in_a_callback_from_c_ends_the_run(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, rehearsed: bool
) -> None:
    """As in a compiler's callback, in the middle of something that takes longer than anybody would wait."""
    lost: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: lost.append(what.exc_type))

    class Compiling:
        def __init__(self, agent: Any) -> None:
            self._agent = agent

        def predict(self, *inputs: Any, **options: Any) -> Any:
            if bool(bed.kubernetes.writes) == rehearsed:
                ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGTERM))()
                time.sleep(20.0)
                pytest.fail("nobody repeated it")
            return self._agent.predict(*inputs, **options)

    monkeypatch.setattr(run, "make_agent", lambda *words: Compiling(make_agent(*words)))
    before = [signal.getsignal(number) for number in SIGNALS]
    result = live(*arguments(bed, "--duration", "10s"))
    assert lost == [KeyboardInterrupt]
    lines = events(result.stdout)
    assert [line["event"] for line in lines] == (["start", "stop"] if rehearsed else [])
    assert not rehearsed or lines[-1]["left"] == "restore"
    assert bed.plans() == {}
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--context", "bed"], "missing: --config"),
        (["--config", "nowhere.yaml", "--context", "bed"], "nowhere.yaml"),
    ],
)
def test_what_is_missing_is_said(words: list[str], said: str) -> None:
    result = live(*words)
    assert result.exit_code == 2
    assert said in result.output


def test_the_context_has_no_default(bed: Bed) -> None:
    result = live("--config", str(bed.config_file(**FAST)))
    assert result.exit_code == 2
    assert "--context" in result.output


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"namespace": "Shop"}, "namespace"),
        ({"agent": "oracle"}, "simulator"),
        ({"agent": "imbress"}, "did you mean 'imbres'"),
        ({"scaling_interval_s": 0.12}, "multiple"),
        ({"prometheus": {"url": "localhost:9090"}}, "http://"),
        ({"min_replicas": 4}, "outside 4 to 10"),
    ],
)
def test_bad_configuration_is_refused_before_the_first_action(bed: Bed, changes: dict[str, Any], said: str) -> None:
    result = live(*arguments(bed, **changes))
    assert result.exit_code == 2
    assert said in result.output
    assert bed.kubernetes.writes == []


def test_an_api_server_that_is_away_is_said_in_one_line(bed: Bed) -> None:
    words = arguments(bed)
    bed.kubernetes.close()
    result = live(*words)
    assert result.exit_code == 2
    assert "live doctor" in result.output and "Traceback" not in result.output
    bed.kubernetes = type(bed.kubernetes)()


def start(words: list[str], **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "imbres_gym", "live", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **options)


def test_sigterm_gives_the_cluster_back(bed: Bed) -> None:
    process = start(arguments(bed))
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    assert [line["event"] for line in lines] == ["start", "decision", "decision"]
    bed.own_s["node-a"] = 0.05
    deadline = time.monotonic() + 20.0
    while not bed.plans() and time.monotonic() < deadline:
        process.stdout.readline()
    assert bed.plans()
    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert events(rest)[-1]["event"] == "stop"
    assert not bed.plans()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_on_the_way_out_leaves_nothing_half_done(bed: Bed, number: signal.Signals) -> None:
    bed.own_s["node-a"] = 0.05
    process = start(arguments(bed, "--duration", "0.5s"))
    sent: list[str] = []

    def signal_at_the_first_deletion(method: str, path: str) -> None:
        if method == "DELETE" and not sent:
            sent.append(path)
            process.send_signal(number)
            time.sleep(0.2)  # the process has it before it has the answer

    bed.kubernetes.fail = signal_at_the_first_deletion
    lines, errors = process.communicate(timeout=60)
    assert sent and process.returncode == 0, errors
    stop = events(lines)[-1]
    assert (stop["event"], stop["left"]) == ("stop", "restore")
    assert not bed.plans()
    assert bed.kubernetes.get("leases", "imbres-gym.shop", "shop")["spec"]["holderIdentity"] == ""


def test_head_may_close_the_pipe(bed: Bed) -> None:
    process = start(arguments(bed))
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=20) == 0
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert "Traceback" not in errors and "Exception" not in errors
    assert bed.kubernetes.get("leases", "imbres-gym.shop", "shop")["spec"]["holderIdentity"] == ""
