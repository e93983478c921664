"""The agents of docs/agents.md run as they stand there, and act legally."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "agents.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, flags=re.S))


def execute(words: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("agent", sorted(name for name in FILES if name.endswith(".yaml")))
def test_an_agent_runs(agent: str, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    if agent == "model.yaml":
        execute([sys.executable, "train.py"], tmp_path)
    words = [sys.executable, "-m", "imbres_gym", "run", agent, "hotel-reservation/high-strict", "--engine", "fluid"]
    output = execute([*words, "--duration", "65s", "--warmup", "0s", "--out", "out"], tmp_path)
    assert agent.removesuffix(".yaml") in output and "illegal" not in output
