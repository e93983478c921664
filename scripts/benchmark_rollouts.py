"""How well episodes run in parallel: processes and Ray, with one worker and with two, in the same run.

Run from a checkout: `python scripts/benchmark_rollouts.py`. Repetitions take turns, so that what else the machine does
falls on all of them; the load average is reported, because a ratio that was measured beside other work says little.
Efficiency is episodes/s with N workers over N times that with one, without the start-up:
from the difference between long and short episodes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from imbres_gym.evaluation.executor import make_executor, use_one_thread  # noqa: E402
from imbres_gym.evaluation.runner import EpisodeFailure, attempt  # noqa: E402
from imbres_gym.evaluation.task import EpisodeTask, plan_tasks  # noqa: E402

EXECUTORS = {"processes": None, "ray": "local"}
"""Name -> address of `make_executor`."""

SHORT_S = 20.0
"""Simulated time of the short episodes [s]: little more than what building and compiled code cost."""

TRIVIAL_ITEMS = 400


def timed(name: str, workers: int, function: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Wall-clock time of all items, start of the workers included [s].

    Raises:
        SystemExit: an episode failed.
    """
    began = time.perf_counter()
    for _, outcome in make_executor(workers, EXECUTORS[name]).run(function, items):
        if isinstance(outcome, EpisodeFailure):
            raise SystemExit(f"{outcome.title}: {outcome.message}")
    return time.perf_counter() - began


def episodes(count: int, scenario: str, agent: str, duration_s: float) -> list[EpisodeTask]:
    """So many episodes, equal but for the seed: those of tuning, which no evaluation uses."""
    (task,) = plan_tasks([scenario], [agent], 1, duration_s=duration_s)
    return [EpisodeTask(**{**vars(task), "seed": 2000 + index}) for index in range(count)]


def benchmark(
    scenario: str, agent: str, count: int, duration_s: float, workers: int, repetitions: int
) -> dict[str, Any]:
    """Time both executors with one worker and with several.

    Args:
        scenario: name or YAML file.
        agent: name or YAML file.
        count: episodes of a timing.
        duration_s: simulated time of each.
        workers: the several.
        repetitions: timings of each kind.
    """
    short, long = (episodes(count, scenario, agent, length) for length in (SHORT_S, duration_s))
    times: dict[tuple[str, int, str], list[float]] = {}
    load_before = os.getloadavg()[0]
    for _ in range(repetitions):
        for name in EXECUTORS:
            for number in (1, workers):
                for kind, tasks in (("short", short), ("long", long)):
                    times.setdefault((name, number, kind), []).append(timed(name, number, attempt, tasks))
            for kind, items in (("one", [0]), ("many", [0] * (TRIVIAL_ITEMS + 1))):
                times.setdefault((name, 1, kind), []).append(timed(name, 1, abs, items))
    return {
        "scenario": scenario,
        "agent": agent,
        "episodes": count,
        "simulated_s": duration_s,
        "workers": workers,
        "repetitions": repetitions,
        "load_average": [load_before, os.getloadavg()[0]],
        "cores": os.cpu_count(),
        "executors": {name: summary(name, times, count, workers) for name in EXECUTORS},
    }


def summary(name: str, times: dict[tuple[str, int, str], list[float]], count: int, workers: int) -> dict[str, Any]:
    """Ratios from one executor's timings."""
    work = {n: paired(times[name, n, "long"], times[name, n, "short"]) for n in (1, workers)}
    per_item = paired(times[name, 1, "many"], times[name, 1, "one"])
    return {
        "start_s": statistics.median(times[name, 1, "one"]),
        "per_item_ms": statistics.median(per_item) / TRIVIAL_ITEMS * 1000.0,
        "episodes_per_s": {n: count / statistics.median(times[name, n, "long"]) for n in work},
        "efficiency": spread([one / (workers * many) for one, many in zip(work[1], work[workers], strict=True)]),
    }


def paired(long: list[float], short: list[float]) -> list[float]:
    """Differences, repetition by repetition."""
    return [a - b for a, b in zip(long, short, strict=True)]


def spread(values: list[float]) -> dict[str, float]:
    """Median with the extremes."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    before, after = result["load_average"]
    lines = [
        f"{result['scenario']}, {result['agent']}: {result['episodes']} episodes of {result['simulated_s']:g} s, "
        f"{result['repetitions']} repetitions, {result['cores']} cores, load average {before:.1f} to {after:.1f}"
    ]
    for name, found in result["executors"].items():
        efficiency = found["efficiency"]
        lines.append(
            f"{name:>9}: efficiency of {result['workers']} workers {efficiency['median']:.2f} "
            f"({efficiency['min']:.2f} - {efficiency['max']:.2f}); start {found['start_s']:.1f} s, "
            f"{found['per_item_ms']:.1f} ms per item"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="social-network/high-strict", help="name or YAML file")
    parser.add_argument("--agent", default="imbres", help="name or YAML file")
    parser.add_argument("--episodes", type=int, default=4, help="of each timing; a multiple of the workers")
    parser.add_argument("--seconds", type=float, default=600.0, help="simulated in each episode")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    given = parser.parse_args()
    use_one_thread()
    result = benchmark(given.scenario, given.agent, given.episodes, given.seconds, given.workers, given.repetitions)
    print(json.dumps(result, indent=2) if given.json else report(result))


if __name__ == "__main__":
    main()
