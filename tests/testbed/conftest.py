"""The bed for all tests of this folder: brought up if it is down, and taken down again only then."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent))

from connection_plans import PlanWriter
from controller import Controller
from live_cluster import APPLICATION, NAMESPACE, Bed

from imbres_gym.live import deploy
from scripts.testbed import bed as machine
from scripts.testbed import layout, manifests

RPS = 6.0


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


@pytest.fixture(scope="module")
def loaded(deployed: Bed) -> Iterator[Bed]:
    """Load in a process of its own while the tests of a module run, as telemetry without load says little."""
    command = [sys.executable, "-m", "imbres_gym", "load", APPLICATION, "--rps", str(RPS), "--duration", "2h"]
    command += ["--namespace", NAMESPACE, "--context", layout.CONTEXT, "--kubeconfig", str(layout.KUBECONFIG)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=layout.ROOT) as process:
        time.sleep(10.0)
        yield deployed
        process.terminate()


@pytest.fixture
def running(loaded: Bed, new_controller: Callable[..., Controller]) -> Controller:
    """A controller whose plans are in force."""
    controller = new_controller()
    controller.start()
    controller.wait_for(lambda e: e["event"] == "decision" and e["plans"]["written"] > 0, "plans written", 150.0)
    return controller


@pytest.fixture
def writer(deployed: Bed) -> Iterator[PlanWriter]:
    """Writes plans in place of a controller; they go with the test."""
    made = PlanWriter(deployed)
    yield made
    made.delete()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Says what was measured, whatever pytest captures."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="")

    return say
