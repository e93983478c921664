"""Makes `fake_cluster` importable, and puts it in the place of the engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from imbres_gym.cluster import make_cluster
from imbres_gym.scenario import load_scenario

sys.path.append(str(Path(__file__).resolve().parent))


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    from fake_cluster import FakeCluster

    monkeypatch.setattr("envs.base.make_cluster", FakeCluster)


@pytest.fixture(params=["fake", "events", "fluid"])
def any_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fake_engine: None) -> str:
    """For promises that hold whatever the engine is."""
    if request.param != "fake":
        engine = request.param
        monkeypatch.setattr(
            "envs.base.make_cluster", lambda scenario: make_cluster(load_scenario(scenario, engine=engine))
        )
    return str(request.param)
