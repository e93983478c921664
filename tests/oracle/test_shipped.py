"""Every record of `configs/oracles/` is of the scenario whose name it has, as that is now."""

from __future__ import annotations

from pathlib import Path

import pytest

from imbres_gym.config import config_root
from imbres_gym.oracle.record import load_record
from imbres_gym.oracle.truth import lower_bound
from imbres_gym.scenario import load_scenario

FOLDER = config_root() / "oracles"


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.json")), ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_shipped_records_are_current(path: Path) -> None:
    record = load_record(path)
    scenario = load_scenario(path.relative_to(FOLDER).with_suffix("").as_posix())
    assert record.scenario == scenario.name
    assert record.outdated(scenario) == ""
    assert record.containers == sum(record.replicas.values())
    assert record.lower_bound == lower_bound(scenario).sum() <= record.containers
    assert record.violated <= 0.05
