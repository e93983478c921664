"""Generated clusters as applications and scenarios."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.alibaba.demand import CONTAINER_CORES, CONTAINER_MEMORY_MB, EFFECTS
from imbres_gym.alibaba.files import build_application, build_scenario, write_scenario
from imbres_gym.alibaba.generator import GeneratedCluster
from imbres_gym.alibaba.interference import moving_interference
from imbres_gym.alibaba.latency import reachable_sla_ms
from imbres_gym.alibaba.trees import Tree
from imbres_gym.application import Application
from imbres_gym.scenario import Scenario

HOP_MS = 0.2
"""Overhead of a call between containers [ms]: estimate, as in Hotel Reservation."""
CACHE_MS, DATABASE_MS = 0.41, 0.97
"""Latency of a read [ms]: readmc_rt and readdb_rt of the example row in the README of
cluster-trace-microservices-v2022."""
LEAST_HOST_CORES = 96
"""Cores of a host: estimate, as the machines of cluster-trace-v2018."""
SPARE_ROOM = 1.25
"""Room of the hosts, times what the containers at the start need: estimate."""
MOST_REPLICAS_FACTOR = 3
"""Most containers of a microservice, times the most that one has at the start."""


def generated_scenario(cluster: GeneratedCluster) -> Scenario:
    """The scenario of a generated cluster, without files."""
    application = build_application(application_data(cluster))
    name = f"{application.name}-{cluster.n_hosts}-hosts"
    return build_scenario(application, {"name": name, **scenario_data(cluster, application)})


def write_generated(cluster: GeneratedCluster, out: Path, command: str) -> Path:
    """Write the scenario of a generated cluster; see `write_scenario`."""
    heading = f"Generated after Alibaba's statistics (docs/alibaba.md) by\n{command}"
    data = application_data(cluster)
    return write_scenario(out, data, scenario_data(cluster, build_application(data)), heading)


def application_data(cluster: GeneratedCluster) -> dict[str, Any]:
    """The application's file."""
    names = microservice_names(len(cluster.kind))
    callers = {
        names[targets[tree.parent[store]]]
        for tree, targets in zip(cluster.shared.trees, cluster.shared.microservice, strict=True)
        for store in np.flatnonzero(tree.is_store)
    }
    classes = {}
    shares = _shares(cluster.popularity)
    for service, (tree, targets) in enumerate(zip(cluster.shared.trees, cluster.shared.microservice, strict=True)):
        classes[f"service-{service:04d}"] = {"share": shares[service], "tree": _calls(tree, targets, names)}
    return {
        "name": f"alibaba-{len(names)}-{cluster.seed}",
        "description": f"{len(names)} microservices and {len(classes)} services after Alibaba's statistics",
        "source": "call graphs, repeats and popularity: imbres_gym/alibaba/statistics.json; all else: estimate",
        "container": {"cores": CONTAINER_CORES, "memory_mb": CONTAINER_MEMORY_MB},
        "hop_ms": HOP_MS,
        "microservices": {
            name: {"operations": {"call": {"cpu_ms": float(f"{cpu_ms:.3g}")}}}
            for name, cpu_ms in zip(names, cluster.sizes.cpu_ms.tolist(), strict=True)
        },
        "stores": {
            store: {"operations": {"read": latency_ms}}
            for name in names
            if name in callers
            for store, latency_ms in zip(_stores_of(name), (CACHE_MS, DATABASE_MS), strict=True)
        },
        "request_classes": classes,
    }


def scenario_data(cluster: GeneratedCluster, application: Application) -> dict[str, Any]:
    """The scenario's file, without the application, which is that of `application_data`."""
    names, counts = microservice_names(len(cluster.kind)), cluster.sizes.containers
    per_host = math.ceil(SPARE_ROOM * counts.sum() / cluster.n_hosts)
    cores = max(LEAST_HOST_CORES, per_host * CONTAINER_CORES)
    interference = moving_interference(cluster.levels)
    return {
        "description": f"{len(names)} microservices, {counts.sum()} containers, {cluster.n_hosts} hosts, as Alibaba's",
        "hosts": {"count": cluster.n_hosts, "cores": cores, "memory_mb": cores / CONTAINER_CORES * CONTAINER_MEMORY_MB},
        "workload": {"kind": "constant", "rps": float(f"{cluster.sizes.rps:.4g}")},
        "interference": {"kind": "moving", **interference.model_dump(exclude={"kind"}, mode="json")},
        "effects": EFFECTS,
        "sla_ms": reachable_sla_ms(application),
        "duration": "10m",
        "initial_replicas": dict(zip(names, counts.tolist(), strict=True)),
        "max_replicas": int(MOST_REPLICAS_FACTOR * counts.max()),
    }


def microservice_names(n: int) -> list[str]:
    """The names, in the order of all arrays."""
    return [f"ms-{index:04d}" for index in range(n)]


def _calls(tree: Tree, targets: NDArray[np.int64], names: list[str]) -> dict[str, Any]:
    """The tree of a request class; callees come after their callers, so that it is built from the end."""
    children: list[list[tuple[int, dict[str, Any]]]] = [[] for _ in tree.parent]
    stores_before = _elder_stores(tree)
    for call in range(len(tree.parent) - 1, -1, -1):
        if tree.is_store[call]:
            caller = names[targets[tree.parent[call]]]
            built: dict[str, Any] = {"call": f"{_stores_of(caller)[stores_before[call] % 2]}/read"}
        else:
            built = {"call": f"{names[targets[call]]}/call"}
        if tree.repeat[call] > 1:
            built["repeat"] = int(tree.repeat[call])
        if tree.probability[call] < 1.0:
            built["probability"] = float(tree.probability[call])
        if children[call]:
            stages = sorted({stage for stage, _ in children[call]})
            built["stages"] = [[child for at, child in reversed(children[call]) if at == stage] for stage in stages]
        if call == 0:
            return built
        children[tree.parent[call]].append((int(tree.stage[call]), built))
    raise AssertionError("a tree has a call 0")


def _elder_stores(tree: Tree) -> NDArray[np.int64]:
    """(n_calls,) calls to stores that the same call makes before this one in the array."""
    seen = np.zeros(len(tree.parent), dtype=np.int64)
    before = np.zeros(len(tree.parent), dtype=np.int64)
    for call in np.flatnonzero(tree.is_store).tolist():
        before[call] = seen[tree.parent[call]]
        seen[tree.parent[call]] += 1
    return before


def _stores_of(name: str) -> tuple[str, str]:
    """Cache and database of a microservice; its first call to a store goes to the cache, and then in turn."""
    number = name.removeprefix("ms-")
    return f"cache-{number}", f"database-{number}"


def _shares(popularity: NDArray[np.float64]) -> list[float]:
    """Rounded shares that sum to 1 as closely as an application demands."""
    shares = np.maximum(np.round(popularity, 9), 1e-9)
    return [float(share) for share in np.round(shares / shares.sum(), 10)]
