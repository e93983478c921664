"""How well the fluid engine agrees with the event engine: load of containers, own latency, E2E p95.

Run from a checkout: `python scripts/compare_engines.py [--scenarios ...]`; prints the tables of `docs/fluid-engine.md`.
Each case is a scenario under a plan at a load, which is a share of the plan's capacity: the rate at which its most
loaded container wants its whole quota. Both engines start from the same seed, so that placement and interference are
the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from imbres_gym.evaluation.episode import run_episode  # noqa: E402
from imbres_gym.evaluation.task import EpisodeTask, plan_tasks  # noqa: E402
from imbres_gym.observation import Observer  # noqa: E402
from imbres_gym.plan import Plan  # noqa: E402
from imbres_gym.policy import load_object  # noqa: E402
from imbres_gym.scenario import Scenario, load_scenario  # noqa: E402
from imbres_gym.sim.events import EventCluster  # noqa: E402
from imbres_gym.sim.fluid.cluster import FluidCluster  # noqa: E402
from imbres_gym.telemetry import Telemetry  # noqa: E402

Floats = NDArray[np.float64]

APPLICATIONS = ("social-network", "media-service", "hotel-reservation", "train-ticket")
LEVELS = ("high-strict", "low-strict", "dynamic-strict")
"""Scenarios of an application that differ in more than the SLA."""
PLANS = ("balanced", "shifted", "random-10")
LOADS = (0.2, 0.4, 0.6, 0.8)
SEED = 2000
SETTLE_S = 60.0
MEASURED_S = 240.0
SHIFTS = 12
"""Intervals that load shifting gets: enough to settle."""


@dataclass(frozen=True)
class Case:
    """A scenario under a plan at a load (share of the plan's capacity)."""

    scenario: str
    plan: str
    load: float
    measured_s: float = MEASURED_S


@dataclass(frozen=True)
class Agreement:
    """Fluid over event engine, less 1, of one case.

    Attributes:
        load: error of the load of the containers, root mean square over containers less that of counting [share].
        own: (cells,) error of the mean own latency per microservice and host.
        own_p95: (cells,) of its p95.
        e2e_mean, e2e_p95: (C,) error of the E2E latency of each request class.
        cpu: (cells,) error of the CPU use.
        e2e_ms: (C,) p95 of the event engine.
    """

    case: Case
    rps: float
    load: float
    own: list[float]
    own_p95: list[float]
    e2e_mean: list[float]
    e2e_p95: list[float]
    cpu: list[float]
    e2e_ms: list[float]


def make_plan(scenario: Scenario, kind: str) -> Plan:
    """The plan of a case, as its policy makes it from what the event engine shows at the scenario's own load."""
    cluster = EventCluster(scenario)
    info = cluster.info
    observer = Observer(info)
    observation = observer.observe(cluster.reset(SEED))
    proportions = observation["proportions"].astype(np.float64)
    if kind == "balanced":
        return Plan(proportions=proportions)
    if kind == "shifted":
        policy = load_object("agents.load.imbres:ImbresLoad")()
        policy.reset(info, SEED)
        for _ in range(SHIFTS):
            proportions = policy.propose(observation)
            cluster.apply(Plan(proportions=proportions))
            observation = observer.observe(cluster.advance(info.control_interval_s))
        return Plan(proportions=proportions)
    connections = load_object("agents.connections.random_k:RandomConnections")(k=10)
    connections.reset(info, SEED)
    return Plan(proportions=proportions, connections=connections.connect(observation, proportions))


def with_rate(scenario: Scenario, rps: float) -> Scenario:
    """The scenario with the containers of its own start, under another constant rate."""
    start = scenario.replicas_at_start()
    return load_scenario(scenario, workload={"kind": "constant", "rps": rps}, initial_replicas=start)


def measure(cluster: EventCluster | FluidCluster, plan: Plan, seconds: float) -> Telemetry:
    """Telemetry of one long interval under a plan, after the cluster has settled."""
    cluster.reset(SEED)
    cluster.apply(plan)
    cluster.advance(SETTLE_S)
    return cluster.advance(seconds)


def compare(case: Case) -> Agreement:
    """Run one case on both engines."""
    scenario = load_scenario(case.scenario, duration=3600.0)
    plan = make_plan(scenario, case.plan)
    rate = scenario.workload.rate(0.0)
    fluid = FluidCluster(with_rate(scenario, rate))
    measure(fluid, plan, 5.0)
    rps = case.load * rate / float(fluid.expected()[2].max())
    setting = with_rate(scenario, rps)
    fluid = FluidCluster(setting)
    ours = measure(fluid, plan, case.measured_s)
    true = measure(EventCluster(setting), plan, case.measured_s)
    ids, calls, _ = fluid.expected()
    arrived = true.container_rps[np.searchsorted(true.container_id, ids)] * case.measured_s
    expected = calls * case.measured_s
    beyond = float(np.mean((arrived - expected) ** 2 - expected)) / float(np.mean(expected)) ** 2
    cells = true.samples > 50
    enough = true.requests > 100
    error = ours.e2e_ms / np.maximum(true.e2e_ms, 1e-9) - 1.0

    def of_cells(name: str) -> list[float]:
        return list((getattr(ours, name)[cells] / np.maximum(getattr(true, name)[cells], 1e-9) - 1.0).tolist())

    return Agreement(
        case=case,
        rps=rps,
        load=float(np.sqrt(max(0.0, beyond))),
        own=of_cells("own_latency_ms"),
        own_p95=of_cells("own_p95_ms"),
        e2e_mean=list(error[enough, 0].tolist()),
        e2e_p95=list(error[enough, 2].tolist()),
        cpu=of_cells("cpu_utilisation"),
        e2e_ms=list(true.e2e_ms[enough, 2].tolist()),
    )


def quartiles(values: list[float]) -> str:
    """Median of the error and of its size, for people."""
    if not values:
        return "-"
    return f"{np.median(values):+.0%} ({np.median(np.abs(values)):.0%})"


def table(results: list[Agreement]) -> str:
    """One row for each case, and one for each load over all; in brackets the median of the absolute errors."""
    names = ("own", "own_p95", "e2e_mean", "e2e_p95", "cpu")
    lines = ["| scenario | plan | load | rps | load of containers | own mean | own p95 | E2E mean | E2E p95 | CPU |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for r in results:
        cells = " | ".join(quartiles(getattr(r, name)) for name in names)
        case = f"{r.case.scenario} | {r.case.plan} | {r.case.load:.0%}"
        lines.append(f"| {case} | {r.rps:.0f} | {r.load:.1%} | {cells} |")
    for load in sorted({r.case.load for r in results}):
        some = [r for r in results if r.case.load == load]
        cells = " | ".join(quartiles([v for r in some for v in getattr(r, name)]) for name in names)
        lines.append(f"| all | all | {load:.0%} | | {np.mean([r.load for r in some]):.1%} | {cells} |")
    return "\n".join(lines)


def play(task: EpisodeTask) -> dict[str, float]:
    """The settled metrics of one episode."""
    return dict(run_episode(task).metrics["settled"])


def rank_agents(pool: ProcessPoolExecutor, scenarios: list[str], agents: list[str], seconds: float) -> str:
    """One row per scenario and agent: what each engine says, and the rank correlation over agents."""
    lines = ["| scenario | agent | containers | fluid | p95, ms | fluid | slow requests | fluid |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    tasks = {
        engine: [replace(t, seed=SEED) for t in plan_tasks(scenarios, agents, 1, duration_s=seconds, engine=engine)]
        for engine in ("events", "fluid")
    }
    played = {engine: list(pool.map(play, some)) for engine, some in tasks.items()}
    names = ("containers", "p95_ms", "request_violation")
    for index, task in enumerate(tasks["events"]):
        true, ours = played["events"][index], played["fluid"][index]
        cells = " | ".join(f"{true[name]:.4g} | {ours[name]:.4g}" for name in names)
        lines.append(f"| {task.scenario_name} | {task.agent_name} | {cells} |")
    for start, scenario in enumerate(scenarios):
        part = slice(start * len(agents), (start + 1) * len(agents))
        agree = [
            kendalltau(*([m[name] for m in played[engine][part]] for engine in ("events", "fluid"))).statistic
            for name in names
        ]
        cells = " | ".join(f"tau {value:.2f} |" for value in agree)
        lines.append(f"| {scenario} | rank correlation | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run the cases, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [f"{app}/{level}" for app in APPLICATIONS for level in LEVELS]
    parser.add_argument("--scenarios", nargs="*", default=every)
    parser.add_argument("--plans", nargs="*", default=PLANS)
    parser.add_argument("--loads", nargs="*", type=float, default=LOADS)
    parser.add_argument("--seconds", type=float, default=MEASURED_S)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to keep all numbers")
    parser.add_argument("--agents", nargs="*", default=[], help="play these agents too, for --agent-seconds")
    parser.add_argument("--agent-seconds", type=float, default=600.0)
    given = parser.parse_args()
    cases = [Case(s, p, x, given.seconds) for s in given.scenarios for p in given.plans for x in given.loads]
    with ProcessPoolExecutor(given.workers) as pool:
        results = list(pool.map(compare, cases))
        if given.json:
            given.json.write_text(json.dumps([asdict(result) for result in results]))
        print(table(results))
        if given.agents:
            print(rank_agents(pool, given.scenarios, given.agents, given.agent_seconds))


if __name__ == "__main__":
    main()
