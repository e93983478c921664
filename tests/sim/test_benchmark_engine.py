"""The benchmark script runs from a checkout; nothing is asserted about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_engine.py"
TINY = ("--rps", "50", "--seconds", "2", "--simpy-seconds", "0.5", "--repetitions", "2")


def run(*arguments: str) -> str:
    """Output of the script, started in a folder of its own."""
    command = [sys.executable, str(SCRIPT), *TINY, *arguments]
    return subprocess.run(command, cwd=SCRIPT.parent, capture_output=True, text=True, check=True).stdout


def test_json_says_what_was_measured() -> None:
    """Both simulators did work, in the numbers asked for."""
    result = json.loads(run("--json"))
    assert result["requests_per_s"] == 50.0 and result["repetitions"] == 2
    for name, seconds in (("engine", 2.0), ("simpy", 0.5)):
        assert result[name]["simulated_s"] == seconds
        spans = result[name]["spans_per_s"]
        assert 0.0 < spans["min"] <= spans["median"] <= spans["max"]
    ratio = result["engine"]["spans_per_s"]["median"] / result["simpy"]["spans_per_s"]["median"]
    assert result["engine_over_simpy"] == ratio


def test_text_names_both() -> None:
    """One line for each simulator."""
    text = run()
    assert "times real time" in text and "engine / simpy" in text
