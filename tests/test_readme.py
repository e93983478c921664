"""Every command and every example of the README runs: shortened, in a folder of its own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORTER = {"--seeds": "1", "--duration": "65s", "--workers": "1", "--steps": "48"}
ON_A_CLUSTER = ("make testbed", "on=", "sleep ", "imbres-gym deploy ", "imbres-gym load ", "imbres-gym live ")
"""Run by `tests/testbed/test_readme_on_the_bed.py`."""
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def commands() -> list[str]:
    """All that need no cluster."""
    lines = [line.split("  #")[0].split(" #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(ON_A_CLUSTER)]


def shortened(command: str, out: Path) -> list[str]:
    """The command with less to do, writing below `out`."""
    words = shlex.split(command)
    for place, word in enumerate(words[:-1]):
        words[place + 1] = SHORTER.get(word, words[place + 1])
        if word == "--out":
            words[place + 1] = str(out / "compare")
    if words[1] in {"run", "reproduce"}:
        words += ["--out", str(out / words[1])]
    return [sys.executable, "-m", "imbres_gym", *words[1:]]


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("imbres-gym ")])
def test_commands_of_the_command_line_run(command: str, tmp_path: Path) -> None:
    done = subprocess.run(shortened(command, tmp_path), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_the_other_commands_are_those_of_ci() -> None:
    """`make` runs in CI; TensorBoard and the activation of the environment are not ours to test."""
    others = {c for c in commands() if not c.startswith(("imbres-gym ", "tensorboard ", "source "))}
    assert others == {"make demo", "make test"}
    assert others <= set(CI.splitlines())


@pytest.mark.parametrize("example", blocks("python"))
def test_examples_run(example: str, tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text(example.replace('"2m"', '"20s"'), encoding="utf-8")
    done = subprocess.run([sys.executable, str(file)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_pictures_and_pages_exist() -> None:
    targets = re.findall(r"\]\(((?!https?://)[^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
