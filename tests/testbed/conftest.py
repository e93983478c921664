"""The bed for all tests of this folder: brought up if it is down, and taken down again only then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent))

from live_cluster import APPLICATION, Bed

from scripts.testbed import bed as machine


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    was_up = machine.is_up()
    machine.up()
    found = Bed()
    yield found
    found.client.close()
    if not was_up:
        machine.down()


@pytest.fixture(scope="module")
def deployed(bed: Bed) -> Iterator[Bed]:
    """The bed's application, three replicas of each microservice."""
    bed.deploy(3)
    yield bed
    bed.delete(APPLICATION)
