"""What the command line promises: quick help, clear errors, the same numbers again, and nothing lost by Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from imbres_gym.cli import app
from imbres_gym.cli.dashboard import sparkline
from imbres_gym.cli.errors import clear_errors
from imbres_gym.evaluation.executor import ClusterLost
from imbres_gym.evaluation.metrics import METRICS

HEAVY = {"numpy", "numba", "matplotlib", "sklearn", "scipy", "torch", "gymnasium", "pydantic", "pulp", "tensorboard"}

APPLICATION = """
name: tiny
container: {cores: 0.5, memory_mb: 100}
hop_ms: 0.1
microservices:
  front: {operations: {ask: {cpu_ms: 2}}}
  back: {operations: {answer: {cpu_ms: 1}}}
stores:
  shelf: {operations: {get: 0.5}}
request_classes:
  read:
    share: 1
    tree:
      call: front/ask
      stages: [[{call: back/answer, repeat: 2}, {call: shelf/get, probability: 0.5}]]
"""
SCENARIO = """
application: tiny-app.yaml
hosts: {count: 2, cores: 8, memory_mb: 4000}
workload: {kind: constant, rps: 20}
interference: {kind: constant, levels: [{cpu: 0.1}, {cpu: 0.5}]}
sla_ms: 50
duration: 1m
"""
WAITING_AGENT = '''
"""An agent that keeps its replicas, and waits in the second seed until a file appears."""
import time
from pathlib import Path

from agents.controller import Controller

STATIC = {
    "load": {"policy": "agents.load.balanced:BalancedLoad"},
    "connections": {"policy": "agents.connections.full:FullConnections"},
    "scaling": {"policy": "agents.scaling.static:StaticScaling"},
}


class WaitingAgent(Controller):
    def __init__(self, info, *, seed, file):
        super().__init__(info, seed=seed, **STATIC)
        if seed == 1001:
            while not Path(file).exists():
                time.sleep(0.05)
'''


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "tiny-app.yaml").write_text(APPLICATION)
    file = tmp_path / "tiny.yaml"
    file.write_text(SCENARIO)
    return str(file)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "150"})


def metrics(folder: Path) -> dict[str, Any]:
    rows = json.loads((folder / "summary.json").read_text())["results"]
    return {
        row["agent"]: {name: value for name, value in row["metrics"].items() if name != "decision_ms"} for row in rows
    }


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, typer.testing, imbres_gym.cli as cli\n"
        "result = typer.testing.CliRunner().invoke(cli.app, ['--help'])\n"
        "print(result.exit_code, all(n in result.output for n in ('compare', 'run', 'list', 'show')))\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["0 True", "[]"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "social-network/high-strikt"], "did you mean 'social-network/high-strict'?"),
        (["compare", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["compare", "social-network/high-strict", "--agents", "imbers"], "did you mean 'imbres'?"),
        (["compare", "social-network/high-strict", "--agents", "imbres,,hpa"], "has an empty name"),
        (["compare", "social-network/high-strict", "--agents", "hpa,hpa"], "two of the agents are called 'hpa'"),
        (["compare", "social-network/high-strict", "--duration", "soon"], "--duration soon: "),
        (["compare", "social-network/high-strict", "--duration", "2m", "--warmup", "2m"], "leaves nothing"),
        (["compare", "social-network/high-strict", "--engine", "magic"], "engine"),
        (["compare", "social-network/high-strict", "--seeds", "0"], "--seeds"),
        (["compare", "social-network/high-strict", "--seeds", "1001"], "--seeds 1001: at most 1000"),
        (["compare", "social-network/high-strict", "--reference", "imbers"], "--reference: 'imbers' is none of the"),
        (["compare", "social-network/high-strict", "--ray-address", "there"], "expected local, auto or HOST:PORT"),
        (["compare", "social-network/high-strict", "--ray-address", "127.0.0.1:1"], "ray start --head"),
        (["run", "imbers", "social-network/high-strict"], "did you mean 'imbres'?"),
        (["show", "social-netwrok"], "did you mean 'social-network'?"),
        (["list", "agent"], "agents"),
    ],
)
def test_wrong_input_ends_with_one_clear_message(arguments: list[str], message: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_an_output_folder_that_cannot_be_written_is_said_at_once(scenario: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = call("compare", scenario, "--agents", "static", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert f"--out {tmp_path / 'file'}: cannot be written to" in result.output


def test_two_agents_that_would_share_their_files_are_refused(scenario: str, tmp_path: Path) -> None:
    for file, name in (("one.yaml", "k=1"), ("two.yaml", "k:1")):
        (tmp_path / file).write_text(yaml.safe_dump({"name": name}))
    result = call("compare", scenario, "--agents", f"{tmp_path / 'one.yaml'},{tmp_path / 'two.yaml'}")
    assert result.exit_code == 2
    assert "two of the agents are called 'k_1' in file names" in result.output


@pytest.mark.parametrize("command", ["compare", "run"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more_ends_with_one_clear_message(
    scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int
) -> None:
    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.fsync", refuse)
    arguments = {
        "compare": ("compare", scenario, "--agents", "static", "--seeds", "1"),
        "run": ("run", "static", scenario, "--duration", "20s"),
    }
    result = call(*arguments[command], "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"cannot write the results: [Errno {code}] {os.strerror(code)}: '{tmp_path}" in result.output
    assert ("--resume" if command == "compare" else "run the same command") in result.output


def test_a_lost_cluster_ends_with_one_clear_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, clear_errors("Go on with --resume"):
        raise ClusterLost("Ray has ended on this machine")
    assert caught.value.exit_code == 1
    assert "Error: Ray has ended on this machine. Go on with --resume" in capsys.readouterr().err


def test_what_an_agent_could_not_open_is_no_full_disk() -> None:
    with pytest.raises(FileNotFoundError), clear_errors(""):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "weights.zip")


def test_compare_writes_everything_and_gives_the_same_numbers_again(scenario: str, tmp_path: Path) -> None:
    options = ("--agents", "static", "--seeds", "2", "--workers")
    first = call("compare", scenario, *options, "2", "--out", tmp_path / "a")
    assert first.exit_code == 0, first.output
    assert str(tmp_path / "a" / "summary.json") in first.output
    assert f"imbres-gym run static {scenario}\n" in first.output
    assert len(list((tmp_path / "a" / "episodes").iterdir())) == 2
    assert len(list((tmp_path / "a" / "figures").glob("*.png"))) == 3
    # One log per episode, one for the figures, one for the hyperparameters.
    assert len(list((tmp_path / "a" / "tensorboard").rglob("events.out.tfevents.*"))) == 4
    assert set(metrics(tmp_path / "a")["static"]) == set(METRICS) - {"decision_ms"}

    again = call("compare", scenario, *options, "1", "--out", tmp_path / "b")
    assert again.exit_code == 0, again.output
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


def test_several_scenarios_are_held_against_the_reference(scenario: str, tmp_path: Path) -> None:
    other = tmp_path / "busier.yaml"
    other.write_text(SCENARIO.replace("rps: 20", "rps: 40"))
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump({**yaml.safe_load(call("show", "static").output), "name": "mine"})
    )
    agents = f"static,{tmp_path / 'mine.yaml'}"
    options = ("--seeds", "1", "--workers", "1", "--duration", "20s", "--out", tmp_path / "out")
    result = call("compare", scenario, other, "--agents", agents, "--reference", tmp_path / "mine.yaml", *options)
    assert result.exit_code == 0, result.output
    assert "2 scenarios together  against mine" in result.output
    aggregated = json.loads((tmp_path / "out" / "summary.json").read_text())["aggregate"]
    assert aggregated["reference"] == "mine"
    # The same agent under two names, with the same seeds.
    assert aggregated["agents"][0]["containers_to_reference"]["value"] == 1.0
    assert (tmp_path / "out" / "figures" / "performance-profiles.png").exists()


def test_compare_reuses_what_matches_and_nothing_else(scenario: str, tmp_path: Path) -> None:
    options = ("--agents", "static", "--workers", "1", "--out", tmp_path)
    assert call("compare", scenario, *options, "--seeds", "1").exit_code == 0
    refused = call("compare", scenario, *options, "--seeds", "1")
    assert refused.exit_code == 2
    assert "--resume" in refused.output
    resumed = call("compare", scenario, *options, "--seeds", "2", "--resume")
    assert "1 of 2 episodes are finished already" in resumed.output
    assert "seed 1000" not in resumed.output
    longer = call("compare", scenario, *options, "--seeds", "2", "--resume", "--duration", "70s")
    assert longer.output.count("another duration, warmup") == 2


def test_run_shows_and_keeps_the_episode(scenario: str, tmp_path: Path) -> None:
    result = call("run", "static", scenario, "--out", tmp_path / "run", "--seed", "7")
    assert result.exit_code == 0, result.output
    assert "tiny static seed 7" in result.output
    for word in ("p95", "SLA", "containers", "workload", "decision"):
        assert word in result.output
    assert [p.name for p in (tmp_path / "run" / "episodes").iterdir()] == ["tiny.static.seed-7.npz"]
    assert list((tmp_path / "run" / "tensorboard").rglob("events.out.tfevents.*"))


ABSURD_AGENT = """
class ExitingAgent:
    def __init__(self, info, *, seed):
        pass

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        raise SystemExit(0)


class AbsurdAgent:
    def __init__(self, info, *, seed):
        pass

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return "whatever", None
"""


def test_a_warm_up_may_be_left_out(scenario: str, tmp_path: Path) -> None:
    result = call("run", "static", scenario, "--out", tmp_path / "run", "--duration", "20s", "--warmup", "0s")
    assert result.exit_code == 0, result.output
    assert "After a warm-up of 0 s" in result.output


def test_illegal_actions_are_said(scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "absurd.py").write_text(ABSURD_AGENT)
    (tmp_path / "absurd.yaml").write_text(yaml.safe_dump({"name": "absurd", "agent": "absurd:AbsurdAgent"}))
    monkeypatch.syspath_prepend(str(tmp_path))
    result = call("run", tmp_path / "absurd.yaml", scenario, "--out", tmp_path / "run", "--duration", "20s")
    assert result.exit_code == 0, result.output
    # All of proportions, connections and replicas, in each of three steps.
    assert "9 parts of its actions were illegal" in result.output


@pytest.mark.parametrize("command", ["compare", "run"])
def test_an_agent_that_ends_the_program_has_failed(
    scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / "absurd.py").write_text(ABSURD_AGENT)
    file = tmp_path / "exiting.yaml"
    file.write_text(yaml.safe_dump({"name": "exiting", "agent": "absurd:ExitingAgent"}))
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = {"compare": ("compare", scenario, "--agents", file, "--seeds", "1"), "run": ("run", file, scenario)}
    result = call(*arguments[command], "--out", tmp_path / "out")
    assert result.exit_code == 1
    if command == "compare":
        assert "failed: tiny exiting seed 1000: SystemExit: 0" in result.output
    else:
        assert str(result.exception) == "something ended the program with exit code 0"


def test_a_reproduction_of_which_every_episode_failed_says_so(
    scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "absurd.py").write_text(ABSURD_AGENT)
    agent, file = tmp_path / "exiting.yaml", tmp_path / "experiment.yaml"
    agent.write_text(yaml.safe_dump({"name": "exiting", "agent": "absurd:ExitingAgent"}))
    lengths = {"duration": "20s", "warmup": "5s"}
    quick = {"scenarios": [scenario], **lengths, "tuning_values": 1}
    agents = {"agents": [str(agent)], "ours": str(agent), "tuning": {"knobs": {}, "duration": "20s"}}
    file.write_text(yaml.safe_dump({"scenarios": [scenario], "seeds": 2, **lengths, **agents, "quick": quick}))
    monkeypatch.syspath_prepend(str(tmp_path))
    result = call("reproduce", "fig6", "--experiment", file, "--workers", "1", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"2 of 2 episodes failed; see {tmp_path / 'out' / 'evaluation' / 'failures'}" in result.output


def test_the_live_table_fits_eighty_columns(scenario: str, tmp_path: Path) -> None:
    command = ("run", "static", scenario, "--out", str(tmp_path / "run"), "--duration", "5m")
    result = CliRunner().invoke(app, command, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert "…" not in result.output
    # The table ends its last line, also where there is no terminal.
    assert not [line for line in result.output.splitlines() if line.startswith("╰") and not line.endswith("╯")]


def group_ends(group: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def processes_with(mark: str) -> list[str]:
    """Command lines of all processes that have inherited `mark` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.parametrize("where", [(), ("--ray-address", "local")], ids=["processes", "ray"])
def test_ctrl_c_keeps_finished_episodes_and_resume_goes_on(
    scenario: str, tmp_path: Path, where: tuple[str, ...]
) -> None:
    (tmp_path / "waiting.py").write_text(WAITING_AGENT)
    go = tmp_path / "go"
    agent = {"name": "waiting", "agent": "waiting:WaitingAgent", "options": {"file": str(go)}}
    (tmp_path / "waiting.yaml").write_text(yaml.safe_dump(agent))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "imbres_gym", "compare", scenario, "--agents", str(tmp_path / "waiting.yaml")]
    command += ["--seeds", "3", "--workers", "1", *where, "--out", str(out)]
    mark = secrets.token_hex(32)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()]), "RAY_AUTH_TOKEN": mark}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What runs these tests in the background may ignore Ctrl-C, and its children with it; a terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 180.0
        while not list((out / "episodes").glob("*.npz")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        # A terminal sends Ctrl-C to the whole group, workers included.
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=20.0)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    assert process.returncode == 130, output + errors
    assert "Interrupted." in errors
    assert f"--out {out} --resume" in errors
    assert not re.search("(?i)traceback|ray_|raylet|gcs| ray ", output + errors)
    assert [p.name for p in (out / "episodes").iterdir()] == ["tiny.waiting.seed-1000.npz"]
    assert group_ends(process.pid, within_s=10.0)
    assert processes_with(mark) == []

    go.touch()
    resumed = subprocess.run(
        [*command, "--resume"], env=environment, capture_output=True, text=True, check=True, timeout=180.0
    )
    assert "1 of 3 episodes are finished already" in resumed.stdout
    assert "seed 1000" not in resumed.stdout
    assert len(list((out / "episodes").iterdir())) == 3
    assert processes_with(mark) == []

    if where:  # other executor, other number of workers, not interrupted: the same numbers
        other = tmp_path / "other"
        in_one_go = [*command[: command.index("--workers")], "--workers", "2", "--out", str(other)]
        subprocess.run(in_one_go, env=environment, capture_output=True, check=True, timeout=180.0)
        assert metrics(out) == metrics(other)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("applications", "social-network"),
        ("scenarios", "social-network/high-strict"),
        ("agents", "imbres"),
        ("environments", "imbres_gym/Cluster-v0"),
    ],
)
def test_list_names_what_is_there(kind: str, name: str) -> None:
    result = call("list", kind)
    assert result.exit_code == 0
    assert name in result.output
    assert "not valid" not in result.output


def test_show_an_application(scenario: str, tmp_path: Path) -> None:
    result = call("show", tmp_path / "tiny-app.yaml", "--workload", "100")
    assert result.exit_code == 0, result.output
    # 2 ms, and the longer of 2 x (0.1 + 1) ms and 0.5 x 0.5 ms, and the hop of the entry: 4.3 ms.
    assert "about 4.3 ms without load" in result.output
    assert "in parallel" in result.output
    back = next(line for line in result.output.splitlines() if line.strip().startswith("back "))
    # 2 calls and 2 ms of CPU per request: 0.2 cores at 100 requests/s, one container of 0.5 cores at 50 %.
    assert back.split() == ["back", "2.00", "200", "2.00", "0.20", "0.5", "1"]


def test_no_load_is_shown_as_no_load(scenario: str, tmp_path: Path) -> None:
    result = call("show", tmp_path / "tiny-app.yaml", "--workload", "0")
    assert "expected load at 0 requests/s" in result.output


def test_show_a_scenario_and_its_yaml(scenario: str) -> None:
    result = call("show", scenario)
    assert result.exit_code == 0, result.output
    assert "p95 of every request class <= 50 ms" in result.output
    assert "50%" in result.output
    dump = yaml.safe_load(call("show", scenario, "--yaml").output)
    assert dump["duration"] == 60.0
    assert dump["application"]["microservices"]["front"]["workers"] == 512


def test_show_an_agent() -> None:
    assert yaml.safe_load(call("show", "imbres").output)["name"] == "imbres"


def test_a_sparkline_is_cut_off_at_its_top() -> None:
    from collections import deque

    assert sparkline(deque([0.0, 50.0, 99.0, 500.0]), top=100.0) == "▁▅██"
    assert sparkline(deque([0.0, 0.0])) == "▁▁"


def test_the_first_use_says_that_the_engine_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import imbres_gym.sim
    from imbres_gym.cli.notes import COMPILING, first_use_note

    monkeypatch.setattr(imbres_gym.sim, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert first_use_note() == COMPILING
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "kernel.run-1.py311.nbi").touch()
    assert first_use_note() is None
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert first_use_note() == COMPILING
    (tmp_path / "cache" / "sim_1").mkdir(parents=True)
    (tmp_path / "cache" / "sim_1" / "kernel.run-1.py311.nbi").touch()
    assert first_use_note() is None


def test_a_reader_that_stops_reading_ends_the_program_without_a_traceback() -> None:
    with pytest.raises(SystemExit), clear_errors(""):
        try:
            raise BrokenPipeError
        except BrokenPipeError:
            sys.exit(1)
