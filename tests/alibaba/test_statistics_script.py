"""The figure of `docs/alibaba.md` at a tiny size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imbres_gym.alibaba.generated import write_generated
from imbres_gym.alibaba.generator import generate
from scripts.experiments.alibaba_statistics import Settings, comparison, draw, measure, request_of


def test_it_measures_draws_and_compares(tmp_path: Path) -> None:
    scenario = write_generated(generate(8, 4, 2000, 16), tmp_path / "tiny.yaml", "by a test")
    results = measure(Settings(services=60, hosts=20, days=1, minutes=3, scenario=str(scenario)))
    assert len(results.correlations) > 0
    assert np.all(np.abs(results.correlations) <= 1.0)
    rng = np.random.default_rng(0)
    assert all(1 <= request_of(tree, rng)[0] <= len(tree.parent) for tree in results.trees)
    draw(results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert comparison(results).count("\n") == 15
