"""The README's commands for a real cluster run on the bed, word for word but for their length."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from live_cluster import APPLICATION, Bed

ROOT = Path(__file__).resolve().parents[2]
SHORTER = {"--duration 5m": "--duration 60s", "--duration 3m": "--duration 30s"}


def block() -> list[str]:
    """The lines of the block that starts the bed."""
    found = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    return next(text for text in found if "make testbed" in text).splitlines()


def test_the_block_starts_and_ends_the_bed() -> None:
    lines = block()
    assert lines[0].split("#")[0].strip() == "make testbed" and lines[-1] == "make testbed-down"


def test_its_commands_deploy_load_check_and_control(bed: Bed, tmp_path: Path) -> None:
    bed.delete(APPLICATION)  # what other tests deployed leaves no room
    script = "\n".join(["set -e", *block()[1:-1], "wait"])
    for long, short in SHORTER.items():
        assert long in script
        script = script.replace(long, short)
    script = script.replace("runs/", f"{tmp_path}/")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=400
        )
    finally:
        delete = f"{block()[1]}; imbres-gym deploy bed-chain $on --delete"
        subprocess.run(["bash", "-c", delete], cwd=ROOT, env=environment, check=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "load.csv").read_text(encoding="utf-8").count("\n") > 60 * 20 / 2
    (journal,) = (tmp_path / "live").glob("*/journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert any(line.get("outcome") not in (None, "held") for line in lines), journal.read_text(encoding="utf-8")
