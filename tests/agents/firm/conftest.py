"""Makes `fakes` and `firm_fakes` importable, and puts a small application in the place of the shipped ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from imbres_gym.scenario import Scenario

HERE = Path(__file__).resolve().parent
sys.path.extend([str(HERE), str(HERE.parent)])


@pytest.fixture
def small_application(monkeypatch: pytest.MonkeyPatch) -> tuple[Scenario, ...]:
    from firm_fakes import small_scene

    monkeypatch.setattr("agents.scaling.firm.task.random_scene", small_scene)
    monkeypatch.setattr("agents.scaling.firm.anomalies.random_scene", small_scene)
    return (small_scene((), 0, 600.0),)
