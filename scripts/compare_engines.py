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
from imbres_gym.observer import Observer  # noqa: E402
from imbres_gym.plan import Plan  # noqa: E402
from imbres_gym.policy import load_object  # noqa: E402
from imbres_gym.scenario import Scenario, load_scenario  # noqa: E402
from imbres_gym.sim.events import EventCluster  # noqa: E402
from imbres_gym.sim.fluid.cluster import FluidCluster  # noqa: E402

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
        own_noise, e2e_noise: (cells,), (C,) error of the standard deviation from one control interval to the next, of
            the mean own latency and of the E2E p95.
    """

    case: Case
    rps: float
    load: float
    own: list[float]
    own_p95: list[float]
    e2e_mean: list[float]
    e2e_p95: list[float]
    cpu: list[float]
    own_noise: list[float]
    e2e_noise: list[float]


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


@dataclass(frozen=True, eq=False)
class Seen:
    """What one engine showed of a case, over all its control intervals (M, H, C, N as in `Telemetry`).

    Attributes:
        samples, own, own_p95, cpu: (M, H) spans, mean and p95 of the own latency, CPU use.
        own_noise: (M, H) standard deviation of the own mean from interval to interval.
        requests, e2e_mean, e2e_p95, e2e_noise: (C,) likewise, the noise that of the p95.
        ids, arrivals: (N,) containers and the calls that reached them.
    """

    samples: NDArray[np.int64]
    own: Floats
    own_p95: Floats
    own_noise: Floats
    cpu: Floats
    requests: NDArray[np.int64]
    e2e_mean: Floats
    e2e_p95: Floats
    e2e_noise: Floats
    ids: NDArray[np.int64]
    arrivals: Floats


def settle(cluster: EventCluster | FluidCluster, plan: Plan) -> None:
    """Start an episode under a plan, and let it settle."""
    cluster.reset(SEED)
    cluster.apply(plan)
    cluster.advance(SETTLE_S)


def watch(cluster: EventCluster | FluidCluster, plan: Plan, seconds: float) -> Seen:
    """Measure a settled cluster in control intervals."""
    settle(cluster, plan)
    interval_s = cluster.info.control_interval_s
    measured = [cluster.advance(interval_s) for _ in range(round(seconds / interval_s))]
    samples = np.array([t.samples for t in measured])
    weight = samples / np.maximum(samples.sum(axis=0), 1)

    def over_time(name: str) -> Floats:
        return np.asarray((weight * [getattr(t, name) for t in measured]).sum(axis=0))

    latencies = [np.concatenate([t.latencies_ms[c] for t in measured]) for c in range(len(cluster.info.classes))]
    return Seen(
        samples=samples.sum(axis=0),
        own=over_time("own_latency_ms"),
        own_p95=over_time("own_p95_ms"),
        own_noise=np.std([t.own_latency_ms for t in measured], axis=0),
        cpu=np.mean([t.cpu_utilisation for t in measured], axis=0),
        requests=np.sum([t.requests for t in measured], axis=0),
        e2e_mean=np.array([values.mean() if values.size else 0.0 for values in latencies]),
        e2e_p95=np.array([np.percentile(values, 95.0) if values.size else 0.0 for values in latencies]),
        e2e_noise=np.std([t.e2e_ms[:, 2] for t in measured], axis=0),
        ids=measured[-1].container_id,
        arrivals=np.sum([t.container_rps for t in measured], axis=0) * interval_s,
    )


def compare(case: Case) -> Agreement:
    """Run one case on both engines."""
    scenario = load_scenario(case.scenario, duration=3600.0)
    plan = make_plan(scenario, case.plan)
    rate = scenario.workload.rate(0.0)
    fluid = FluidCluster(with_rate(scenario, rate))
    settle(fluid, plan)
    rps = case.load * rate / float(fluid.expected()[2].max())
    setting = with_rate(scenario, rps)
    fluid = FluidCluster(setting)
    ours, true = watch(fluid, plan, case.measured_s), watch(EventCluster(setting), plan, case.measured_s)
    ids, calls, _ = fluid.expected()
    arrived = true.arrivals[np.searchsorted(true.ids, ids)]
    expected = calls * case.measured_s
    beyond = float(np.mean((arrived - expected) ** 2 - expected)) / float(np.mean(expected)) ** 2
    cells, classes = true.samples > 50, true.requests > 100

    def error(name: str, where: NDArray[np.bool_]) -> list[float]:
        return list((getattr(ours, name)[where] / np.maximum(getattr(true, name)[where], 1e-9) - 1.0).tolist())

    return Agreement(
        case=case,
        rps=rps,
        load=float(np.sqrt(max(0.0, beyond))),
        own=error("own", cells),
        own_p95=error("own_p95", cells),
        e2e_mean=error("e2e_mean", classes),
        e2e_p95=error("e2e_p95", classes),
        cpu=error("cpu", cells),
        own_noise=error("own_noise", cells),
        e2e_noise=error("e2e_noise", classes),
    )


def quartiles(values: list[float]) -> str:
    """Median of the error and of its size, for people."""
    if not values:
        return "-"
    return f"{np.median(values):+.0%} ({np.median(np.abs(values)):.0%})"


def table(rows: list[tuple[str, list[Agreement]]]) -> str:
    """One row for each group of cases: median error, in brackets the median of its size; worst is that of a case."""
    names = ("own", "own_p95", "e2e_mean", "e2e_p95", "cpu", "own_noise", "e2e_noise")
    head = "own mean | own p95 | E2E mean | E2E p95 | CPU | noise of own mean | noise of E2E p95 | worst E2E p95"
    lines = [f"| cases | load of containers | {head} |", "|---|" + "---:|" * 9]
    for label, some in rows:
        cells = " | ".join(quartiles([v for r in some for v in getattr(r, name)]) for name in names)
        worst = max(float(np.median(np.abs(r.e2e_p95))) for r in some)
        lines.append(f"| {label} | {np.mean([r.load for r in some]):.1%} | {cells} | {worst:.0%} |")
    return "\n".join(lines)


def each(results: list[Agreement]) -> list[tuple[str, list[Agreement]]]:
    """Every case a group of its own."""
    return [(f"{r.case.scenario}, {r.case.plan}, {r.case.load:.0%} ({r.rps:.0f} requests/s)", [r]) for r in results]


def summary(results: list[Agreement]) -> list[tuple[str, list[Agreement]]]:
    """Cases by application and load, by plan, and all."""
    groups: dict[str, list[Agreement]] = {}
    for r in results:
        groups.setdefault(f"{r.case.scenario.split('/')[0]}, {r.case.load:.0%}", []).append(r)
    for plan in PLANS:
        groups[plan] = [r for r in results if r.case.plan == plan]
    groups["all"] = results
    return [(label, some) for label, some in groups.items() if some]


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
    parser.add_argument("--every", action="store_true", help="a row for each case instead of a summary")
    parser.add_argument("--json", type=Path, help="where to keep all numbers")
    parser.add_argument("--agents", nargs="*", default=[], help="play these agents too, for --agent-seconds")
    parser.add_argument("--agent-seconds", type=float, default=600.0)
    given = parser.parse_args()
    cases = [Case(s, p, x, given.seconds) for s in given.scenarios for p in given.plans for x in given.loads]
    with ProcessPoolExecutor(given.workers) as pool:
        results = list(pool.map(compare, cases))
        if given.json:
            given.json.write_text(json.dumps([asdict(result) for result in results]))
        if results:
            print(table(each(results) if given.every else summary(results)))
        if given.agents:
            print(rank_agents(pool, given.scenarios, given.agents, given.agent_seconds))


if __name__ == "__main__":
    main()
