"""The paper's trace-driven simulation (section 6.4): a production-like cluster, hundreds of containers a microservice.

Run from a checkout: `python scripts/experiments/trace_driven.py --workers 2`. Call graphs, popularity and interference
follow Alibaba's statistics (`docs/alibaba.md`), containers have 4 cores and 8 GB, and the fluid engine simulates them.
The paper names neither its baselines' settings nor the application nor its SLA. Here Erms and Rhythm plan with a
profile measured on this cluster, Firm is trained on it, HPA's target is searched, the others are as shipped, and the
SLA is twice what plenty of containers reach without the cost of connections (`reachable_sla_ms`).

`--full` runs 4,000 hosts with 300,000 containers, one seed of 20 minutes, with HPA's targets found at a sixteenth, and
with Firm's actor trained on from there.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from agents.bundle import load_bundle  # noqa: E402
from agents.scaling.firm.anomalies import ANOMALY_S  # noqa: E402
from imbres_gym.agent import AgentConfig, load_agent_config  # noqa: E402
from imbres_gym.alibaba.generated import generated_scenario  # noqa: E402
from imbres_gym.alibaba.generator import generate  # noqa: E402
from imbres_gym.evaluation.episode import EpisodeResult  # noqa: E402
from imbres_gym.evaluation.executor import Executor  # noqa: E402
from imbres_gym.evaluation.markdown import table  # noqa: E402
from imbres_gym.evaluation.report import markdown_table, summarise  # noqa: E402
from imbres_gym.evaluation.storage import write_atomically  # noqa: E402
from imbres_gym.evaluation.task import EpisodeTask, scenario_hash  # noqa: E402
from imbres_gym.evaluation.tuning import TUNING_SEEDS, Knob, tune, tuning_table, with_option  # noqa: E402
from imbres_gym.observer import Observer  # noqa: E402
from imbres_gym.profiling.design import LOADS, Design  # noqa: E402
from imbres_gym.profiling.profile import SUFFIX, save_profile  # noqa: E402
from imbres_gym.profiling.runner import RunStore, make_profile, run_profiling  # noqa: E402
from imbres_gym.scenario import Scenario, load_scenario  # noqa: E402
from imbres_gym.sim.fluid.cluster import FluidCluster  # noqa: E402
from scripts.experiments.runs import (  # noqa: E402
    evaluation_seeds,
    percent,
    relative_change,
    run_episodes,
    run_from_command_line,
    run_time,
)

SHIPPED = ("imbres", "imbres-bounded", "imbres-per-service")
BALANCED = {name: name.replace("imbres", "balanced", 1) for name in SHIPPED}
"""Each of them without load shifting."""
OURS = (*SHIPPED, *BALANCED.values())
SEARCHED = ("hpa-full", "hpa")
PLANNERS = {
    "erms-full": "agents.scaling.erms.policy:ErmsScaling",
    "rhythm-full": "agents.scaling.rhythm:RhythmScaling",
}
"""Those that plan with a profile, and their scaling tiers."""
FIRM = "firm"
RIVALS = (*SEARCHED, *PLANNERS, FIRM)
TRACED = 0.002
"""Share of requests that Firm sees traces of: 430 a minute of the median request class with 250 hosts, 150 with 4,000.
Alibaba traces 0.5 % (cluster-trace-microservices-v2021)."""


@dataclass(frozen=True)
class Settings:
    """What is run; the defaults are the experiment.

    The paper simulates thousands of hosts; the default is a sixteenth of 4,000, with as many containers per
    microservice and per host, so that 30 minutes of an agent take half a minute.
    """

    microservices: int = 94
    hosts: int = 250
    cluster_seed: int = 2000
    duration_s: float = 1800.0
    warmup_s: float = 600.0
    seeds: int = 5
    targets: tuple[float, ...] = (0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4)
    """CPU targets of HPA that are tried."""
    known_targets: Mapping[str, float] = field(default_factory=dict)
    """CPU target of an HPA that is taken as it is, without a search."""
    profiled_loads: tuple[float, ...] = LOADS
    profile_seeds: tuple[int, ...] = (2000,)
    firm_samples: int = 10_000
    """Of Firm's support vector machine, as in FIRM (section 4)."""
    firm_transitions: int = 6_000
    """Of Firm's agent."""
    firm_from: Settings | None = None
    """The cluster from whose actor Firm's training goes on; None for the application of the recipe `firm-transfer`."""


FULL = Settings(
    microservices=1500,
    hosts=4000,
    duration_s=1200.0,
    seeds=1,
    known_targets={"hpa-full": 0.7, "hpa": 0.5},
    firm_samples=45_000,  # 30 for each microservice, so that what is usual there is known
    firm_from=Settings(),
)
"""As many hosts as in `docs/scale.md`. The targets are those found at a sixteenth."""

SLA_SLACK = 2.0
"""SLA over the worst p95 of a cluster with plenty of containers whose connections cost nothing: estimate, made after no
target of the HPA with full connection had kept 1.25 times it with 250 hosts. There plenty of containers reach 1.5 to 2
times that p95 under full connection, and 1.3 times with ten random connections each."""
SLA_MEASURED_S = 300.0


def make_scenario(settings: Settings, folder: Path) -> Scenario:
    """The generated cluster in the fluid engine, with an SLA that can be kept; measured unless the folder has it."""
    cluster = generate(settings.microservices, settings.hosts, settings.cluster_seed)
    scenario = load_scenario(generated_scenario(cluster), duration=settings.duration_s, engine="fluid")
    path = folder / f"sla-{SLA_SLACK:g}-{SLA_MEASURED_S:g}s-{scenario_hash(scenario)}.json"
    if not path.exists():
        write_atomically(path, json.dumps({"sla_ms": reachable_sla_ms(scenario)}).encode())
    return scenario.model_copy(update=json.loads(path.read_bytes()))


def reachable_sla_ms(scenario: Scenario) -> float:
    """`SLA_SLACK` times the worst p95 of a minute of any request class with twice the containers, in steps of 10 ms.

    Load is balanced, for five minutes, on a seed that no evaluation uses. All are connected, and that costs nothing:
    with 4,000 hosts the connections of so many containers would overload them.
    """
    plenty = {name: 2 * count for name, count in scenario.replicas_at_start().items()}
    room = scenario.hosts.model_copy(
        update={"cores": 2 * scenario.hosts.cores, "memory_mb": 2 * scenario.hosts.memory_mb}
    )
    free = scenario.effects.model_copy(update={"connection_cost": 0.0})
    cluster = FluidCluster(scenario.model_copy(update={"initial_replicas": plenty, "hosts": room, "effects": free}))
    observer, worst = Observer(cluster.info), 0.0
    telemetry = cluster.reset(TUNING_SEEDS[0])
    while telemetry.time_s < SLA_MEASURED_S:
        observation = observer.observe(telemetry)
        if telemetry.time_s >= scenario.scaling_interval_s:
            worst = max(worst, float(observation["window_p95_ms"].max()))
        print(f"SLA: {telemetry.time_s:g} of {SLA_MEASURED_S:g} s", end="\r", flush=True)
        telemetry = cluster.advance(scenario.control_interval_s)
    return 10.0 * math.ceil(SLA_SLACK * worst / 10.0)


def make_profile_of(scenario: Scenario, settings: Settings, folder: Path, executor: Executor) -> Path:
    """Measure the profile that Erms and Rhythm plan with, unless the folder has it; an interrupted one goes on."""
    design = Design(scenario, loads=settings.profiled_loads, seeds=settings.profile_seeds)
    fingerprint = design.fingerprint()
    path = folder / f"profile-{fingerprint}{SUFFIX}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    store = RunStore(folder / "profile.runs", fingerprint, resume=True)
    total = len(design.points) * len(design.seeds)

    def on_finished(outcome: object) -> None:
        print(f"profile: {len(store.finished)} of {total} runs", end="\r", flush=True)

    failures = run_profiling(design, store, executor, on_finished)
    if failures:
        raise SystemExit(f"{len(failures)} runs of the profile failed: {failures[0]}")
    save_profile(make_profile(design, store.finished), path)
    store.remove()
    return path


def train_firm_on(scenario: Scenario, settings: Settings, folder: Path) -> Path:
    """Train Firm on this cluster, unless the folder has it; an interrupted training goes on. Returns the bundle."""
    from agents.scaling.firm.recipe import train_firm  # torch must be loaded after it was told to use one thread

    start: str | Path = "firm-hotel-reservation"
    if settings.firm_from is not None:
        start = train_firm_on(make_scenario(settings.firm_from, folder), settings.firm_from, folder)
    folder /= f"firm-{scenario_hash(scenario)}-{settings.firm_samples}-{settings.firm_transitions}-{TRACED:g}"
    path = folder / f"firm-{scenario.application.name}.zip"
    if not path.exists():
        train_firm(
            scenario,
            folder,
            transitions=settings.firm_transitions,
            samples=settings.firm_samples,
            trace_sampling=min(1.0, TRACED * scenario.scaling_interval_s / ANOMALY_S),  # as many as at run time
            start=load_bundle(start),
            on_point=lambda point: print(f"Firm: {point}", flush=True),
        )
    return path


def firm(bundle: Path) -> AgentConfig:
    """Firm with its traces at this scale."""
    return with_option(FIRM, "bundle", str(bundle)).model_copy(update={"trace_sampling": TRACED})


def planner(name: str, scaler: str, profile: Path) -> AgentConfig:
    """Erms or Rhythm under the connections and load that they were profiled with."""
    config = load_agent_config("erms-full")
    scaling: dict[str, Any] = {"policy": scaler, "profile": str(profile)}
    return config.model_copy(update={"name": name, "options": {**config.options, "scaling": scaling}})


def without_shifting(config: AgentConfig, name: str) -> AgentConfig:
    """An agent with balanced load in place of its load tier."""
    load = load_agent_config("hpa-full").options["load"]
    return config.model_copy(update={"name": name, "options": {**config.options, "load": load}})


def run_agents(settings: Settings, folder: Path, executor: Executor) -> tuple[list[EpisodeResult], str]:
    """Every episode of the evaluation, and the table of HPA's search."""
    scenario = make_scenario(settings, folder)
    knobs = {name: Knob("target", settings.targets) for name in SEARCHED if name not in settings.known_targets}
    tuning_scenario = load_scenario(scenario, duration=settings.duration_s / 2.0)
    tuned, _ = tune(
        [tuning_scenario],
        knobs,
        settings.warmup_s / 2.0,
        lambda tasks: run_episodes(tasks, folder / "tuning", executor),
        TUNING_SEEDS[:1],
    )
    agents = {name: load_agent_config(name) for name in SHIPPED}
    agents |= {other: without_shifting(agents[name], other) for name, other in BALANCED.items()}
    agents |= {item.agent: item.config for item in tuned}
    agents |= {name: with_option(name, "target", target) for name, target in settings.known_targets.items()}
    profile = make_profile_of(scenario, settings, folder, executor)
    agents |= {name: planner(name, scaler, profile) for name, scaler in PLANNERS.items()}
    agents[FIRM] = firm(train_firm_on(scenario, settings, folder))
    tasks = [
        EpisodeTask(scenario.name, scenario, name, agents[name], seed, settings.warmup_s)
        for seed in evaluation_seeds(settings.seeds)
        for name in (*OURS, *RIVALS)
    ]
    return run_episodes(tasks, folder, executor), tuning_table(tuned) if tuned else ""


def report(results: Sequence[EpisodeResult], tuning: str, settings: Settings) -> str:
    """Containers, violations, and what is saved against each rival."""
    rows = []
    for rival in RIVALS:
        saved = [relative_change(results, ours, rival, "containers") for ours in OURS]
        rows.append([rival, *map(percent, saved)])
    return "\n\n".join(
        [
            f"{settings.microservices} microservices on {settings.hosts} hosts; {settings.seeds} seed(s) of "
            f"{settings.duration_s / 60.0:.0f} minutes, the first {settings.warmup_s / 60.0:.0f} not counted.",
            markdown_table(summarise(results)),
            table(["containers against", *OURS], rows),
            *([tuning] if tuning else []),
            run_time(results),
        ]
    )


def experiment(folder: Path, executor: Executor, settings: Settings | None = None) -> str:
    """Run it; returns the report."""
    settings = settings or Settings()
    results, tuning = run_agents(settings, folder, executor)
    return report(results, tuning, settings)


def full_experiment(folder: Path, executor: Executor) -> str:
    """Run it with 4,000 hosts; returns the report."""
    return experiment(folder, executor, FULL)


if __name__ == "__main__":
    run_from_command_line(__doc__, "runs/trace-driven", experiment, full_experiment)
