"""The benchmark script runs from a checkout; nothing is asserted about speed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "benchmark_vector.py"


def test_it_prints_a_row_for_each_way_of_stepping() -> None:
    command = [sys.executable, str(SCRIPT), "--scenario", "hotel-reservation/high-strict", "--num-envs", "2"]
    output = subprocess.run(
        [*command, "--seconds", "0.05"], cwd=SCRIPT.parent, capture_output=True, text=True, check=True
    ).stdout
    for name in (
        "one environment",
        "ten random connections",
        "SyncVectorEnv of 2",
        "vector_entry_point, 2, one process per core",
        "CartPole",
    ):
        assert name in output
