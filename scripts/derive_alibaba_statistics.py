#!/usr/bin/env python
"""Derive `imbres_gym/alibaba/statistics.json`, what the generator knows of Alibaba, from three public downloads.

Run from a checkout: `python scripts/derive_alibaba_statistics.py --graphs FILE --branching DIR --machines FILE`.

- `--graphs`: DGG's sample of real call graphs (github.com/dufanrong/DGG, sample_data/real_call_graph_renamed), 84,030
  graphs of 2,014 services of cluster-trace-microservices-v2022, as one .tar.gz of JSON files. `num` in a file is how
  many requests had that graph.
- `--branching`: AE/graphGenerator of Erms (github.com/Cloud-and-Distributed-Systems/Erms): calls by depth.
- `--machines`: CSV without header of cluster-trace-v2018 machine_usage: machine, time [s], CPU [%], ...

Every service counts alike, whatever its number of requests; within a service, its graphs count by their requests.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

STORES = {"mc", "db"}
"""Kinds of call that go to stores (memcached, database); all others go to microservices."""
RAREST_SHAPE = 1e-5
"""Share of services; rarer trees of calls are left out."""
MOST_CALLS = 30
"""Larger counts are counted as this one."""
LARGE = 0.9
"""A service is large if its union of graphs is above this quantile of all services."""
LARGE_PROBABILITY_BINS = 10


def main() -> None:
    """Read the three downloads and write the statistics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=Path, required=True)
    parser.add_argument("--branching", type=Path, required=True)
    parser.add_argument("--machines", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "imbres_gym" / "alibaba" / "statistics.json")
    options = parser.parse_args()
    statistics = {
        "graphs": graph_statistics(options.graphs),
        "branching": branching_statistics(options.branching),
        "utilisation": utilisation_statistics(options.machines),
    }
    options.out.write_text(json.dumps(statistics, indent=1) + "\n", encoding="utf-8")
    print(f"{options.out}: {options.out.stat().st_size} bytes")


def read_graphs(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Service -> its graphs."""
    services: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with tarfile.open(file, "r:gz") as archive:
        for member in archive:
            if member.name.endswith(".json"):
                *_, kind, service, _ = member.name.split("/")
                content = archive.extractfile(member)
                assert content is not None, member.name
                services[f"{kind}/{service}"].append(json.load(content))
    return services


def graph_statistics(file: Path) -> dict[str, Any]:
    """What a typical request of a service looks like, how large services are, and how popular."""
    services = read_graphs(file)
    shapes: Counter[str] = Counter()
    repeats: dict[str, Counter[int]] = {"store": Counter(), "microservice": Counter()}
    for graphs in services.values():
        requests = sum(graph["num"] for graph in graphs)
        for graph in graphs:
            share = graph["num"] / requests
            shapes[shape_of(graph)] += share
            for edge in graph["edges"]:
                kind = "store" if edge["rpctype"] in STORES else "microservice"
                repeats[kind][min(edge["weight"], MOST_CALLS)] += share
    del shapes["s"]  # the user cannot call a store
    unions = {service: union_of(graphs) for service, graphs in services.items()}
    sizes = np.array([size for size, _ in unions.values()])
    large = np.quantile(sizes, LARGE)
    bins = np.mean([shares_of_bins(chances) for size, chances in unions.values() if size > large and chances], axis=0)
    popularity = np.log10([sum(graph["num"] for graph in graphs) for graphs in services.values()])
    total = sum(shapes.values())
    return {
        "services": len(services),
        "graphs": sum(len(graphs) for graphs in services.values()),
        "shapes": {shape: round(w / total, 6) for shape, w in shapes.most_common() if w / total > RAREST_SHAPE},
        "repeats": {kind: histogram(counts) for kind, counts in repeats.items()},
        "large_sizes": [int(x) for x in np.quantile(sizes[sizes > large], np.linspace(0.0, 1.0, 41))],
        "large_share": round(float(np.mean(sizes > large)), 4),
        "large_probability_bins": [round(float(share), 4) for share in bins],
        "log10_requests": [round(float(x), 3) for x in np.quantile(popularity, np.linspace(0.0, 1.0, 101))],
    }


def shape_of(graph: dict[str, Any]) -> str:
    """The tree of the calls of a graph without names: m for a microservice and what it calls, s for a store.

    A node that several call is called by each, but calls others itself only in the first place, seen from the user.
    """
    edges: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for edge in graph["edges"]:
        edges[edge["source"]].append((edge["target"], edge["rpctype"] in STORES))
    seen, queue = {"USER"}, ["USER"]
    calls: dict[str, list[str]] = defaultdict(list)
    for node in queue:
        for callee, is_store in edges[node]:
            goes_on = not is_store and callee not in seen
            calls[node].append("s" if is_store else callee if goes_on else "m")
            if goes_on:
                seen.add(callee)
                queue.append(callee)
    shapes = {"s": "s", "m": "m"}
    for node in reversed(queue):
        below = "".join(sorted(shapes[callee] for callee in calls[node]))
        shapes[node] = f"m({below})" if below else "m"
    return shapes[calls["USER"][0]]


def union_of(graphs: list[dict[str, Any]]) -> tuple[int, list[float]]:
    """Nodes in the union of a service's graphs, and how likely each of its calls is once the caller is reached."""
    reached: Counter[str] = Counter()
    made: Counter[tuple[str, str]] = Counter()
    for graph in graphs:
        for node in graph["nodes"]:
            reached[node["node"]] += graph["num"]
        for edge in graph["edges"]:
            made[edge["source"], edge["target"]] += graph["num"]
    return len(reached) - 1, [count / reached[caller] for (caller, _), count in made.items() if caller != "USER"]


def shares_of_bins(chances: list[float]) -> NDArray[np.float64]:
    """Share of chances in each of `LARGE_PROBABILITY_BINS` bins from 0 to 1."""
    counts: NDArray[np.int64] = np.histogram(np.minimum(chances, 1.0), LARGE_PROBABILITY_BINS, (0.0, 1.0))[0]
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def histogram(counts: Mapping[int, float]) -> list[list[float]]:
    """[value, share] pairs that sum to 1, without what is rarer than 1 in 10,000."""
    total = sum(counts.values())
    return [[value, round(count / total, 5)] for value, count in sorted(counts.items()) if count / total > 1e-4]


def branching_statistics(folder: Path) -> dict[str, Any]:
    """Chance to call nothing, number of calls, and share of them that go to stores, by level (1 is the entry)."""
    leaf = {int(row["depth"]): float(row["percentage"]) for row in rows(folder / "leafDistribution.csv")}
    calls: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    chance: dict[tuple[str, str], float] = {}
    for row in rows(folder / "depthDistribution.csv"):
        calls[int(row["depth"])][min(int(row["num"]), MOST_CALLS)] += float(row["percentage"])
        chance[row["depth"], row["num"]] = float(row["percentage"])
    by_kind: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows(folder / "communicationParadigm.csv"):
        weight = chance.get((row["depth"], row["num"]), 0.0) * min(int(row["num"]), MOST_CALLS)
        by_kind[int(row["depth"])][row["rpc_type"]] += weight * float(row["percentage"])
    levels = range(1, 21)
    stores = {d: by_kind[d]["memcached"] + by_kind[d]["db"] for d in levels}
    # Messages in queues are left out: nobody waits for them.
    others = {d: by_kind[d]["rpc"] + by_kind[d]["http"] for d in levels}
    return {
        "leaf": {str(d): round(leaf[d], 4) for d in levels},
        "calls": {str(d): histogram(calls[d]) for d in levels},
        "store_share": {str(d): round(stores[d] / (stores[d] + others[d]), 4) for d in levels},
    }


def rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a header."""
    with file.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def utilisation_statistics(file: Path) -> dict[str, Any]:
    """Spread between and within machines, autocorrelation and jumps of CPU utilisation."""
    records: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.reader(lines):
            if len(row) >= 3 and row[1] and row[2]:
                records[row[0]].append((float(row[1]), float(row[2]) / 100.0))
    machines = [np.array(sorted(record)) for record in records.values()]
    minutes = [every_minute(machine) for machine in machines]
    busy = [series for series in minutes if series.mean() > 0.1]
    lags = [1, 2, 5, 10, 20, 30, 60, 120, 240]
    correlations = [float(np.median([np.corrcoef(s[:-lag], s[lag:])[0, 1] for s in busy])) for lag in lags]
    changes = np.concatenate([np.diff(m[:, 1])[np.diff(m[:, 0]) <= 60.0] for m in machines])
    means = np.array([series.mean() for series in minutes])
    slow_share, slow, fast = fit_two_scales(np.array(lags), np.array(correlations))
    return {
        "machines": len(machines),
        "busy_machines": len(busy),
        "mean_between_machines": round(float(means.mean()), 4),
        "deviation_between_machines": round(float(means.std(ddof=1)), 4),
        "deviation_within_machine": round(float(np.median([series.std() for series in busy])), 4),
        "deviation_within_hour": round(float(np.median([within_hours(s) for s in busy])), 4),
        "autocorrelation": {str(lag): round(c, 3) for lag, c in zip(lags, correlations, strict=True)},
        "slow_share_of_variance": round(slow_share, 3),
        "slow_autocorrelation_per_minute": round(slow, 4),
        "fast_autocorrelation_per_minute": round(fast, 3),
        "changes_above_0.3_per_minute": round(float(np.mean(np.abs(changes) > 0.3)), 5),
        "largest_change": round(float(np.abs(changes).max()), 2),
        "quantiles": {
            str(q): round(float(np.quantile(np.concatenate(minutes), q)), 3)
            for q in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
        },
    }


def every_minute(machine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last value known at each full minute of (time, utilisation) rows."""
    times = np.arange(machine[0, 0], machine[-1, 0], 60.0)
    values: NDArray[np.float64] = machine[np.searchsorted(machine[:, 0], times, side="right") - 1, 1]
    return values


def within_hours(series: NDArray[np.float64]) -> float:
    """Mean over the hours of the standard deviation within the hour."""
    return float(series[: len(series) // 60 * 60].reshape(-1, 60).std(axis=1).mean())


def fit_two_scales(lags: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Share, slow and fast autocorrelation per minute of `share * slow ** lag + (1 - share) * fast ** lag`."""
    from scipy.optimize import least_squares

    def misses(x: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = x[0] * x[1] ** lags + (1.0 - x[0]) * x[2] ** lags - values
        return result

    fitted = least_squares(misses, [0.6, 0.995, 0.6], bounds=([0.0, 0.9, 0.0], [1.0, 1.0, 0.9])).x
    return float(fitted[0]), float(fitted[1]), float(fitted[2])


if __name__ == "__main__":
    main()
