"""Makes `fake_cluster` importable, and puts it in the place of the engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from imbres_gym.cluster import make_cluster

sys.path.append(str(Path(__file__).resolve().parent))


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    from fake_cluster import FakeCluster

    monkeypatch.setattr("envs.base.make_cluster", FakeCluster)


@pytest.fixture(params=["fake", "events"])
def any_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fake_engine: None) -> str:
    """For promises that hold whatever the engine is."""
    if request.param == "events":
        monkeypatch.setattr("envs.base.make_cluster", make_cluster)
    return str(request.param)
