"""`imbres-gym live` on the bed: it moves load away from interference, scales, and leaves the cluster as it was."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from connection_plans import plans
from controller import Controller
from live_cluster import APPLICATION, NAMESPACE, Background, Bed, percentile, query, wait_for

from imbres_gym.live.load import Request
from scripts.testbed import layout, stress

RPS = 15.0
NewController = Callable[..., Controller]


def interval(requests: list[Request], of: float, seed: int = 1) -> tuple[float, float]:
    """95 % bootstrap interval of a percentile [ms]."""
    stream = random.Random(seed)
    values = sorted(percentile(stream.choices(requests, k=len(requests)), of) for _ in range(400))
    return values[10], values[-11]


@pytest.fixture
def noisy(deployed: Bed) -> Iterator[layout.Node]:
    """A node with a best-effort job that leaves little: of those with callees, the one with the fewest entry pods."""
    entries = Counter(pod.spec.nodeName for pod in deployed.pods("frontend"))
    callees = Counter(pod.spec.nodeName for name in ("catalogue", "pricing", "orders") for pod in deployed.pods(name))
    node = min((n for n in layout.NODES if callees[n.name]), key=lambda n: (entries[n.name], -callees[n.name]))
    stress.start(node, 0.9 * layout.NODE_CORES)
    yield node
    stress.stop(node)


def test_the_doctor_finds_nothing_to_fix(deployed: Bed, new_controller: NewController) -> None:
    deployed.load(15.0, 15.0)  # metrics and traces are there only once something was asked
    done = subprocess.run(new_controller().command("doctor"), capture_output=True, text=True, timeout=120.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ready to run." in done.stdout


def test_a_dry_run_changes_nothing(deployed: Bed, new_controller: NewController) -> None:
    controller = new_controller()
    background = Background(deployed, 10.0, 15.0, seed=5)
    command = [*controller.command(), "--dry-run", "--duration", "15s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200.0)
    background.join()
    assert done.returncode == 0, done.stderr
    assert plans(deployed) == {}
    assert deployed.replicas() == dict.fromkeys(deployed.application.microservices, 3)


def share_of_node(bed: Bed, node: str, window: str) -> float:
    """Share of the calls of callees that a node's pods answered."""
    callees = f"imbres_requests_total{{namespace='{NAMESPACE}', microservice!='frontend'}}"
    calls = query(f"sum by (node) (increase({callees}[{window}]))", "node")
    return calls[node,] / sum(calls.values())


def test_load_moves_away_from_interference_and_the_tail_falls(
    deployed: Bed, noisy: layout.Node, new_controller: NewController, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed.load(RPS, 5.0)
    balanced = deployed.load(RPS, 50.0, seed=6)
    balanced_share = share_of_node(deployed, noisy.name, "40s")
    controller = new_controller()
    controller.start()
    background = Background(deployed, RPS, 80.0, seed=7)
    controller.wait_decision("applied", 120.0)
    background.join()
    shifted = deployed.load(RPS, 50.0, seed=6)
    shifted_share = share_of_node(deployed, noisy.name, "40s")
    assert controller.stop() == 0

    with capsys.disabled():
        for name, requests, share in (("balanced", balanced, balanced_share), ("shifted", shifted, shifted_share)):
            for of in (50.0, 95.0):
                low, high = interval(requests, of)
                print(f"\n{name}: p{of:g} {percentile(requests, of):.0f} ms (95 %: {low:.0f}-{high:.0f})", end="")
            print(f", {100.0 * share:.0f} % of the calls on the noisy node")
    assert all(request.ok for request in shifted)
    assert shifted_share < 0.6 * balanced_share
    assert percentile(shifted, 95.0) < percentile(balanced, 95.0)
    # The end gives the cluster back.
    assert plans(deployed) == {}


def test_an_agent_scales_deployments_and_gives_them_back(deployed: Bed, new_controller: NewController) -> None:
    deployed.scale("pricing", 1)
    wait_for(lambda: len(deployed.pods("pricing")) == 1, "one left", 60.0)
    before = deployed.replicas()
    controller = new_controller(agent="hpa-full", min_replicas=1, max_replicas=4)
    controller.start()
    # One container of pricing uses three quarters of its quota then; the agent aims at a half.
    background = Background(deployed, 25.0, 120.0, seed=8)
    try:
        wait_for(lambda: deployed.replicas()["pricing"] > 1, "pricing scaled out", 150.0)
        wait_for(lambda: deployed.ready("pricing") == deployed.replicas()["pricing"], "ready", 60.0)
    finally:
        requests = background.join()
        assert controller.stop() == 0
        assert deployed.replicas() == before
        deployed.scale("pricing", 3)
    wait_for(lambda: all(deployed.ready(name) == 3 for name in before), "all ready again", 120.0)
    assert all(request.ok for request in requests)


def test_what_live_and_simulated_runs_of_the_same_scenario_measure(
    deployed: Bed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are reported; what is promised is the order of the latency."""
    from imbres_gym.scenario import load_scenario
    from imbres_gym.sim.events import EventCluster

    scenario = load_scenario("bed-chain/quiet")
    cluster = EventCluster(scenario)
    cluster.reset(1)
    cluster.advance(30.0)
    shares = [request.share for request in scenario.application.request_classes.values()]
    p95_ms = [float(cluster.advance(60.0).e2e_ms[:, 2] @ shares) for _ in range(5)]
    deployed.load(20.0, 5.0)
    live = deployed.load(20.0, 60.0, seed=9)
    low, high = interval(live, 95.0)
    with capsys.disabled():
        simulated = f"simulated {min(p95_ms):.0f}-{max(p95_ms):.0f} ms in {len(p95_ms)} minutes"
        print(f"\nlive p95 {percentile(live, 95.0):.0f} ms (95 %: {low:.0f}-{high:.0f}), {simulated}")
    # The simulator knows neither Python nor a machine shared with the control plane: the order must be right.
    assert 1.0 / 4.0 < percentile(live, 95.0) / max(p95_ms) < 4.0


def test_files_of_a_run_are_where_they_were_asked_for(
    deployed: Bed, new_controller: NewController, tmp_path: Path
) -> None:
    controller = new_controller()
    command = [*controller.command(), "--dry-run", "--duration", "10s", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120.0)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "out").iterdir()
    assert (run / "journal.jsonl").read_text(encoding="utf-8") == done.stdout
    assert list((run / "tensorboard").iterdir())
    assert APPLICATION in done.stdout
