"""Makes this folder's helpers importable, and starts pods for the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent))

from real_pods import RealPod, real_pod

from scripts.testbed import packages


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    """What writes rules is installed before there is a bed, too."""
    packages.install(packages.RUN)


@pytest.fixture
def pod() -> Iterator[RealPod]:
    with real_pod() as pod:
        yield pod


@pytest.fixture
def other_pod() -> Iterator[RealPod]:
    with real_pod() as pod:
        yield pod
