"""How fast the event engine is on one core: against real time, in spans per second, and against SimPy.

Run from a checkout: `python scripts/benchmark_engine.py`. Both simulate the same scenario in the same run; the SimPy
oracle (`tests/oracles/simpy_engine.py`) is the naive version of the same rules, so the ratio says what compilation
brings, not how two good programs compare. Times are wall-clock times of one thread: close other programs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
sys.path.append(str(ROOT / "tests"))

try:
    from oracles.simpy_engine import simulate
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}: the same model in SimPy needs the extra `dev`, which `make test` installs") from None

from imbres_gym.scenario import Scenario, load_scenario  # noqa: E402
from imbres_gym.sim.events import EventCluster  # noqa: E402


def timed(work: Callable[[], int], simulated_s: float, repetitions: int) -> dict[str, Any]:
    """Median, least and most of real-time factor and spans/s over some repetitions of `work`, which counts spans."""
    factors, rates = [], []
    for _ in range(repetitions):
        began = time.perf_counter()
        spans = work()
        took = time.perf_counter() - began
        factors.append(simulated_s / took)
        rates.append(spans / took)
    return {"simulated_s": simulated_s, "times_real_time": spread(factors), "spans_per_s": spread(rates)}


def spread(values: list[float]) -> dict[str, float]:
    """Median with the extremes."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def benchmark(
    scenario: Scenario, seconds: float, simpy_seconds: float, repetitions: int, warmup_s: float = 5.0
) -> dict[str, Any]:
    """Time both simulators on one scenario; compilation and the filling of the queues are not timed.

    Args:
        scenario: what to simulate.
        seconds: simulated time of the engine in one repetition.
        simpy_seconds: simulated time of the oracle in one repetition, from an empty system.
        repetitions: timings of each; the median is reported.
        warmup_s: simulated time before the first timing of the engine.
    """
    cluster = EventCluster(scenario)
    cluster.reset(0)
    cluster.advance(warmup_s)
    engine = timed(lambda: int(cluster.advance(seconds).samples.sum()), seconds, repetitions)
    oracle = timed(lambda: simulate(scenario, simpy_seconds, seed=0).spans, simpy_seconds, repetitions)
    ratio = engine["spans_per_s"]["median"] / oracle["spans_per_s"]["median"]
    return {
        "scenario": scenario.name,
        "requests_per_s": scenario.workload.rate(0.0),
        "containers": int(cluster.info.initial_replicas.sum()),
        "repetitions": repetitions,
        "engine": engine,
        "simpy": oracle,
        "engine_over_simpy": ratio,
    }


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [
        f"{result['scenario']}: {result['requests_per_s']:g} requests/s, {result['containers']} containers, "
        f"median of {result['repetitions']} (min - max)"
    ]
    for name in ("engine", "simpy"):
        real, spans = result[name]["times_real_time"], result[name]["spans_per_s"]
        lines.append(
            f"{name:>6}: {real['median']:10.3g} times real time ({real['min']:.3g} - {real['max']:.3g}), "
            f"{spans['median']:10,.0f} spans/s ({spans['min']:,.0f} - {spans['max']:,.0f})"
        )
    lines.append(f"engine / simpy: {result['engine_over_simpy']:.0f}")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="social-network/high-strict", help="name or YAML file")
    parser.add_argument("--rps", type=float, default=1200.0, help="end-user requests/s")
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated by the engine in each repetition")
    parser.add_argument("--simpy-seconds", type=float, default=3.0, help="simulated by SimPy in each repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    given = parser.parse_args()
    scenario = load_scenario(given.scenario, workload={"kind": "constant", "rps": given.rps})
    result = benchmark(scenario, given.seconds, given.simpy_seconds, given.repetitions)
    print(json.dumps(result, indent=2) if given.json else report(result))


if __name__ == "__main__":
    main()
