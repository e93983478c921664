"""The bed for all tests of this folder: brought up if it is down, and taken down again only then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent))

from controller import Controller
from live_cluster import APPLICATION, NAMESPACE, Bed

from imbres_gym.live import deploy
from scripts.testbed import bed as machine
from scripts.testbed import manifests


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    was_up = machine.is_up()
    machine.up()
    found = Bed()
    yield found
    found.client.close()
    if was_up:
        again = Bed()  # the last tests take the bed down and up, which makes new certificates
        again.delete(APPLICATION)
        again.client.close()
    else:
        machine.down()


@pytest.fixture(scope="module")
def deployed(bed: Bed) -> Bed:
    """The bed's application, three replicas of each microservice; the same pods for all modules, if they are well."""
    bed.deploy(3)
    return bed


@pytest.fixture(scope="session")
def kubeconfig(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the controller's service account, with the rights that the manifests give it."""
    deploy.apply(bed.client, [], NAMESPACE)  # the namespace that the rights are for
    return manifests.controller_kubeconfig(tmp_path_factory.mktemp("rights") / "kubeconfig", NAMESPACE)


@pytest.fixture
def new_controller(kubeconfig: Path, tmp_path: Path) -> Iterator[Callable[..., Controller]]:
    """Makes controllers, and ends them with the test."""
    made: list[Controller] = []

    def make(**options: Any) -> Controller:
        made.append(Controller(tmp_path / f"controller{len(made)}", kubeconfig, **options))
        return made[-1]

    yield make
    for controller in made:
        controller.end()
