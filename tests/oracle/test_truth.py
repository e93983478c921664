"""What the oracle knows of the simulator, worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imbres_gym.config import ConfigError
from imbres_gym.oracle.truth import counts_at, host_levels, lower_bound, require_constant, stretches
from imbres_gym.scenario import load_scenario


def test_the_stretch_is_that_of_the_engines_manual(scenario_file: Path) -> None:
    scenario = load_scenario(scenario_file)
    # CPU 0.5, memory bandwidth 0.4, network 0.9 (stretches nothing), LLC 0.2; all sensitivities are 1:
    # 1 + 0.25 * 0.5 + 0.2 * 0.4 + 0.3 * 0.2.
    stretch = stretches(scenario, np.array([[0.5, 0.4, 0.9, 0.2], [0.0, 0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(stretch, [[1.265, 1.0], [1.265, 1.0]])


def test_containers_at_a_share_of_the_quota(scenario_file: Path) -> None:
    scenario = load_scenario(scenario_file)
    np.testing.assert_allclose(host_levels(scenario)[:, 0], [0.1, 0.6])
    # 60/s * 20 ms = 1.2 cores, * mean(1.025, 1.15) = 1.305, / (0.5 * 0.5) = 5.22; 60/s * 30 ms: 7.83.
    assert counts_at(scenario, 0.5).tolist() == [6, 8]
    # The least stretch: 1.2 * 1.025 / 0.5 = 2.46 and 1.8 * 1.025 / 0.5 = 3.69.
    assert lower_bound(scenario).tolist() == [3, 4]


def test_idle_use_takes_its_part_of_the_quota(scenario_file: Path) -> None:
    app = (scenario_file.parent / "tiny-app.yaml").read_text()
    (scenario_file.parent / "tiny-app.yaml").write_text(app.replace("{cpu_ms: 20}}", "{cpu_ms: 20}}, idle_cores: 0.1"))
    # 1.23 / (0.5 - 0.1) = 3.075.
    assert lower_bound(load_scenario(scenario_file)).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("workload", {"workload": {"kind": "diurnal", "mean_rps": 10, "amplitude_rps": 5, "period_s": 600}}),
        ("interference", {"interference": {"kind": "moving", "levels": [{"cpu": 0.3}]}}),
    ],
)
def test_what_changes_with_time_is_refused(scenario_file: Path, key: str, change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: .*kind: constant"):
        require_constant(load_scenario(scenario_file, **change))
