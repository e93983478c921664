"""How the cost of a decision, and of simulating 5 s, grows with the cluster: hosts, containers, microservices.

Run from a checkout: `python scripts/benchmark_scale.py decision` or `tick`, with `--growth` for the figures of
`docs/scale.md`. For decisions the cluster is made up (`scale_cluster.py`), so only the agent is timed; ticks are those
of the fluid engine on a generated cluster (`imbres_gym.alibaba`). Every size runs in a process of its own, on one
thread; what is reported is CPU time, the least of some, which other programs on the machine disturb less than
wall-clock time or a mean, and the peak memory of that process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.scale_cluster import MadeUpCluster, Size  # noqa: E402

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the full size, for the growth."""
AXES: dict[str, tuple[str, ...]] = {
    "hosts": ("hosts",),
    "containers": ("containers",),
    "microservices": ("microservices", "pairs"),
    "all together": ("hosts", "containers", "microservices", "pairs"),
}
"""What grows together along one line of the figure; everything else is at the full size."""

if TYPE_CHECKING:
    from imbres_gym.telemetry import Telemetry

Measurement = dict[str, Any]
Measured = TypeVar("Measured")


def measure_decision(size: Size, decisions: int) -> Measurement:
    """CPU time of Imbres' decisions for a cluster of one size [s].

    Every second decision ends a scaling interval, with an SLA that is violated by a factor of two, so that Algorithms 2
    and 3 hand out about a ninth more containers. The first two, which compile, are not counted.
    """
    from agents.controller import Controller
    from imbres_gym.agent import load_agent_config

    cluster = MadeUpCluster(size, seed=2000)
    agent = Controller(cluster.info, seed=2000, **load_agent_config("imbres").options)
    half_s = cluster.info.scaling_interval_s / 2.0
    taken: dict[str, list[float]] = {"decision": [], "scaling_decision": []}
    shares: dict[str, list[dict[str, float]]] = {name: [] for name in taken}
    action = None
    for step in range(1, 2 * decisions + 3):
        observation = cluster.observe(half_s * step, action)
        began = time.process_time()
        action, _ = agent.predict(observation)
        name = "decision" if step % 2 else "scaling_decision"
        taken[name].append(time.process_time() - began)
        total = agent.decision_ms["total"]
        shares[name].append({tier: ms / total for tier, ms in agent.decision_ms.items() if tier != "total"})
    return {
        "size": asdict(size),
        "connections": len(action["connections"].edges),
        "added_containers": int(action["replicas"].sum()) - size.containers,
        **{f"{name}_s": min(values[1:]) for name, values in taken.items()},
        **{
            f"{name}_share": {tier: statistics.median(one[tier] for one in of_name[1:]) for tier in of_name[0]}
            for name, of_name in shares.items()
        },
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def measure_tick(size: Size, ticks: int) -> Measurement:
    """CPU time of 5 s of the fluid engine, telemetry included, of a cluster like Alibaba's [s].

    The call trees are those of the generator, which decides the pairs. `full_tick_s` is with full connection, `tick_s`
    with the connections of Imbres' groups, whose number is reported; these change before each tick, as load proportions
    do, and `apply_s` is what putting such a plan in force takes. The first two of each, which compile or touch memory
    for the first time, are not counted.
    """
    from agents.connections.imbres_grouping import GroupingConnections
    from imbres_gym.alibaba.generated import generated_scenario
    from imbres_gym.alibaba.generator import generate
    from imbres_gym.observer import Observer
    from imbres_gym.plan import Plan, project_proportions
    from imbres_gym.sim.fluid.cluster import FluidCluster

    scenario = generated_scenario(generate(size.microservices, size.hosts, 2000, size.containers))
    cluster = FluidCluster(scenario.model_copy(update={"connections_per_container": size.budget}))
    began = time.process_time()
    telemetry = cluster.reset(2000)
    reset_s = time.process_time() - began
    policy, rng = GroupingConnections(), np.random.default_rng(2000)
    policy.reset(cluster.info, 2000)
    taken: dict[str, list[float]] = {"full_tick_s": [], "apply_s": [], "tick_s": []}

    def timed(name: str, work: Callable[[], Measured]) -> Measured:
        began = time.process_time()
        result = work()
        taken[name].append(time.process_time() - began)
        return result

    def tick() -> Telemetry:
        return cluster.advance(cluster.info.control_interval_s)

    for _ in range(ticks + 2):
        telemetry = timed("full_tick_s", tick)
    observation = Observer(cluster.info).observe(telemetry)
    for _ in range(ticks + 2):
        shifted = telemetry.proportions * rng.uniform(0.8, 1.2, telemetry.proportions.shape)
        proportions, _ = project_proportions(shifted, telemetry.ready)
        plan = Plan(proportions, policy.connect(observation, proportions))
        timed("apply_s", lambda plan=plan: cluster.apply(plan))
        telemetry = timed("tick_s", tick)
    return {
        "size": {**asdict(size), "pairs": len(cluster.info.pairs)},
        "request_classes": len(cluster.info.classes),
        "requests": int(telemetry.requests.sum()),
        "connections": int(telemetry.connections.sum()),
        "reset_s": reset_s,
        **{name: min(values[2:]) for name, values in taken.items()},
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def in_own_process(work: Callable[..., Measurement], *arguments: Any) -> Measurement:
    """Run a measurement in a fresh process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def growth(work: Callable[..., Measurement], full: Size, *arguments: Any) -> dict[str, list[Measurement]]:
    """Measurements along every axis, from the smallest to the full size."""
    lines: dict[str, list[Measurement]] = {axis: [] for axis in AXES}
    for axis, names in AXES.items():
        for fraction in FRACTIONS:
            size = replace(full, **{name: max(2, round(getattr(full, name) * fraction)) for name in names})
            lines[axis].append(in_own_process(work, size, *arguments))
    return lines


def exponent(line: list[Measurement], key: str) -> float:
    """B of time = a * size^b, least squares in logarithms."""
    slope, _ = np.polyfit(np.log(FRACTIONS), np.log([measurement[key] for measurement in line]), 1)
    return float(slope)


def plot(lines: dict[str, list[Measurement]], key: str, title: str, path: Path) -> None:
    """Log-log plot of time over size, with the fitted exponents."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for axis, line in lines.items():
        label = f"{axis}: exponent {exponent(line, key):.2f}"
        axes.loglog(FRACTIONS, [measurement[key] for measurement in line], "o-", label=label)
    axes.axhline(1.0, color="grey", linestyle=":", label="target")
    axes.set(xlabel="size / full size", ylabel="CPU time [s]", title=title)
    axes.legend()
    figure.savefig(path, dpi=120)


def heading(measurement: Measurement) -> str:
    """Size and memory, for people."""
    size = measurement["size"]
    return (
        f"{size['hosts']:,} hosts, {size['microservices']:,} microservices, {size['containers']:,} containers, "
        f"{size['pairs']:,} pairs, {measurement['connections']:,} connections: "
        f"peak memory {measurement['peak_memory_gb']:.2f} GB"
    )


def report_tick(measurement: Measurement) -> str:
    """A measurement for people."""
    return (
        f"{heading(measurement)}\n  one tick of 5 s        {measurement['tick_s']:.3f} s CPU, with full connection "
        f"{measurement['full_tick_s']:.3f}; {measurement['requests']:,} requests of "
        f"{measurement['request_classes']} classes ended; the start took {measurement['reset_s']:.1f} s\n"
        f"  a plan with new links  {measurement['apply_s']:.3f} s CPU"
    )


def report_decision(measurement: Measurement) -> str:
    """A measurement for people."""
    lines = [heading(measurement)]
    for text, name in ("every control interval", "decision"), ("with scaling", "scaling_decision"):
        shares = ", ".join(f"{tier} {share:.0%}" for tier, share in measurement[f"{name}_share"].items())
        lines.append(f"  {text:<22} {measurement[f'{name}_s']:.3f} s CPU ({shares})")
    lines.append(f"  containers added by Algorithm 3: {measurement['added_containers']:,}")
    return "\n".join(lines)


PARTS: dict[str, tuple[Callable[..., Measurement], Callable[[Measurement], str], str, str]] = {
    "decision": (
        measure_decision,
        report_decision,
        "scaling_decision_s",
        "Imbres' whole decision: Algorithm 1, table, groups, Algorithms 2, 3",
    ),
    "tick": (measure_tick, report_tick, "tick_s", "5 s of the fluid engine"),
}
"""What can be measured: how, its report, what the figure shows, what it is."""


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name, (_, _, _, description) in PARTS.items():
        part = parts.add_parser(name, help=description)
        part.add_argument("--repeats", type=int, default=5, help="the fastest is reported")
        for field, value in asdict(Size()).items():
            if name == "decision" or field not in ("pairs", "budget"):
                part.add_argument(f"--{field}", type=int, default=value)
        part.add_argument("--growth", action="store_true", help="smaller sizes too, and the exponents")
        part.add_argument("--figure", type=Path, help="with --growth: where to save the log-log plot")
        part.add_argument("--json", type=Path, help="where to save the measurements")
    given = parser.parse_args()
    work, report, key, description = PARTS[given.part]
    size = Size(**{field: getattr(given, field, value) for field, value in asdict(Size()).items()})
    result: Any
    if given.growth:
        result = growth(work, size, given.repeats)
        for axis, line in result.items():
            print(f"{axis}: exponent {exponent(line, key):.2f}")
            print("\n".join(report(measurement) for measurement in line))
        if given.figure:
            plot(result, key, f"{description}, one thread", given.figure)
    else:
        result = in_own_process(work, size, given.repeats)
        print(report(result))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
