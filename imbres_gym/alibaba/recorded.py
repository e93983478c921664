"""A download as a scenario: application, interference and workload as recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.alibaba.demand import (
    CONTAINER_CORES,
    CONTAINER_MEMORY_MB,
    EFFECTS,
    MEASURED,
    Demand,
    calls_per_unit,
    read_demand,
)
from imbres_gym.alibaba.digest import Digest
from imbres_gym.alibaba.files import build_application, interference_csv, write_scenario
from imbres_gym.alibaba.generated import HOP_MS, LEAST_HOST_CORES, SPARE_ROOM
from imbres_gym.alibaba.hosts import RecordedHosts, read_hosts
from imbres_gym.alibaba.latency import reachable_sla_ms
from imbres_gym.alibaba.merging import Node, call_tree
from imbres_gym.alibaba.services import RECORDED_SHARE, Service, Services, read_services
from imbres_gym.alibaba.traces import Callee
from imbres_gym.config import ConfigError
from imbres_gym.scenario import INITIAL_UTILISATION

LEAST_STORE_MS = 0.5
"""Latency of a store call that was recorded as 0, which means less than 1 ms: estimate, the middle."""
LONGEST_EPISODE_S = 1800

INTERFERENCE, WORKLOAD, SERVICES = "interference.csv", "workload.txt", "services.csv"


@dataclass(frozen=True)
class Written:
    """What came of a download."""

    scenario: Path
    services: Services
    microservices: int
    measured: int
    """Of these, with a CPU demand from the trace."""
    rps: float
    """Mean requests/s of the workload."""
    hosts: int
    minutes_of_calls: int
    """That the workload replays, again and again if the episode is longer."""
    minutes_of_hosts: int
    """That interference replays."""


def write_recorded(
    digest: Digest, folder: Path, n_services: int, n_hosts: int, rps: float | None, heading: str
) -> Written:
    """Write the scenario of a download.

    Args:
        digest: of the download.
        folder: to write to.
        n_services: the ones with most requests become request classes.
        n_hosts: recorded hosts, and hosts of the scenario.
        rps: mean requests/s that the workload is scaled to; None for what was recorded.
        heading: comment at the top of the files.

    Raises:
        ConfigError: a table is missing, tables do not overlap in time, no request is recorded then, or the rate is not
            known and not given.
    """
    services, hosts = read_services(digest, n_services), read_hosts(digest, n_hosts)
    per_minute = _overlapping(services, hosts)
    scale = _requests_per_sample(digest, per_minute, rps)
    each = np.asarray(per_minute * scale / 60.0, dtype=np.float64)
    rates = each.sum(axis=0)
    unit = 1.0 if digest.version == "v2021" else calls_per_unit(digest, scale)
    demand = read_demand(digest, unit)
    data = _application(digest.version, services, demand)
    application = build_application(data)
    busy_cores = float(rates.max()) * sum(application.cpu_ms_per_request().values()) / 1000.0
    n_used = hosts.cpu.shape[1]
    cores = max(LEAST_HOST_CORES, math.ceil(SPARE_ROOM * (busy_cores / INITIAL_UTILISATION) / n_used + CONTAINER_CORES))
    start = max(services.first_minute, hosts.first_minute) - hosts.first_minute
    cpu = hosts.cpu[start:]
    scenario = {
        "description": f"{len(services.services)} services and {n_used} hosts of Alibaba's trace {digest.version}",
        "hosts": {"count": n_used, "cores": cores, "memory_mb": cores / CONTAINER_CORES * CONTAINER_MEMORY_MB},
        "workload": {"kind": "replay", "file": WORKLOAD, "step_s": 60.0},
        "interference": {"kind": "replay", "file": INTERFERENCE},
        "effects": EFFECTS,
        "sla_ms": reachable_sla_ms(application),
        "duration": min(LONGEST_EPISODE_S, 60 * len(cpu)),
        "max_replicas": max(200, math.ceil(n_used * cores / CONTAINER_CORES)),
    }
    series = {
        # The first minute once more at the end: there a record starts again.
        INTERFERENCE: interference_csv(
            60.0 * np.arange(len(cpu) + 1, dtype=np.float64), np.concatenate([cpu, cpu[:1]])
        ),
        WORKLOAD: "".join(f"{rate:.3f}\n" for rate in rates),
        SERVICES: "".join(_service_rows(services, each)),
    }
    written = write_scenario(folder, data, scenario, heading, series)
    microservices = application.microservices.values()
    measured = sum(microservice.source == MEASURED for microservice in microservices)
    return Written(written, services, len(microservices), measured, float(rates.mean()), n_used, len(rates), len(cpu))


def _overlapping(services: Services, hosts: RecordedHosts) -> NDArray[np.int64]:
    """(n_services, n_minutes) sampled requests from the first minute on that hosts are recorded in, too."""
    per_minute = np.stack([service.per_minute for service in services.services])
    last_calls, last_hosts = services.first_minute + per_minute.shape[1], hosts.first_minute + len(hosts.cpu)
    first = max(services.first_minute, hosts.first_minute)
    if first >= min(last_calls, last_hosts):
        raise ConfigError(
            f"hosts are recorded from minute {hosts.first_minute} to {last_hosts}, calls from {services.first_minute} "
            f"to {last_calls}: they do not overlap; fetch files of the same time"
        )
    overlapping = per_minute[:, first - services.first_minute :]
    if not overlapping.any():
        raise ConfigError(
            f"no request is recorded of the services after minute {first}, when hosts are; fetch files of the same time"
        )
    return overlapping


def _requests_per_sample(digest: Digest, per_minute: NDArray[np.int64], rps: float | None) -> float:
    """Requests that one sampled request stands for."""
    if rps is not None:
        return rps * 60.0 / float(per_minute.sum(axis=0).mean())
    if digest.version not in RECORDED_SHARE:
        raise ConfigError(
            f"--rps is needed: the trace {digest.version} is scaled to an unknown unit; give the mean requests/s of "
            "the services together"
        )
    return 1.0 / (RECORDED_SHARE[digest.version] * digest.sample)


def _application(version: str, services: Services, demand: Demand) -> dict[str, Any]:
    total = sum(service.requests for service in services.services)
    label = short_names({callee.name for service in services.services for callee, _ in _walk(service)})
    used: set[tuple[str, str]] = set()

    def name(callee: Callee) -> str:
        used.add((callee.name, _operation(callee)))
        return f"{label[callee.name]}/{_operation(callee)}"

    classes = {
        _class_name(index, service): {
            "share": service.requests / total,
            "tree": call_tree(service.tree, service.entry, name),
        }
        for index, service in enumerate(services.services)
    }
    store_ms = _store_latencies(services)
    microservices: dict[str, Any] = {}
    stores: dict[str, Any] = {}
    for called, operation in sorted(used):
        if called in store_ms:
            store = stores.setdefault(label[called], {"operations": {}, "source": "trace: response time"})
            store["operations"][operation] = round(max(store_ms[called][operation], LEAST_STORE_MS), 3)
        else:
            cpu_ms, source = demand.of(called)
            microservice = microservices.setdefault(label[called], {"source": source, "operations": {}})
            microservice["operations"][operation] = {"cpu_ms": float(f"{cpu_ms:.3g}")}
    return {
        "name": f"alibaba-{version}",
        "description": f"{len(classes)} of {services.all_services} services of Alibaba's trace",
        "source": f"cluster-trace-microservices-{version}",
        "container": {"cores": CONTAINER_CORES, "memory_mb": CONTAINER_MEMORY_MB},
        "hop_ms": HOP_MS,
        "microservices": microservices,
        "stores": stores,
        "request_classes": classes,
    }


def _store_latencies(services: Services) -> dict[str, dict[str, float]]:
    """Store -> operation -> mean latency of a call [ms]; what is also called as a microservice is none."""
    time_ms: dict[str, dict[str, float]] = {}
    calls: dict[str, dict[str, int]] = {}
    microservices = set()
    for service in services.services:
        for callee, node in _walk(service):
            if not callee.is_store:
                microservices.add(callee.name)
                continue
            operation = _operation(callee)
            times, counts = time_ms.setdefault(callee.name, {}), calls.setdefault(callee.name, {})
            times[operation] = times.get(operation, 0.0) + node.time_ms
            counts[operation] = counts.get(operation, 0) + node.visits
    return {
        store: {operation: total / calls[store][operation] for operation, total in times.items()}
        for store, times in time_ms.items()
        if store not in microservices
    }


def short_names(names: set[str]) -> dict[str, str]:
    """Names of v2021 are 64 hexadecimal digits: the first 12, where that tells them apart; without slash or space."""
    clean = {name: "-".join(name.replace("/", " ").split()) for name in names}
    short = {name: text[:12] if len(text) == 64 else text for name, text in clean.items()}
    return short if len(set(short.values())) == len(names) else clean


def _operation(callee: Callee) -> str:
    return callee.interface[:12] if len(callee.interface) == 64 else callee.interface


def _class_name(index: int, service: Service) -> str:
    plain = service.name.replace("_", "").isalnum() and len(service.name) <= 24
    return service.name if plain else f"service-{index}"


def _walk(service: Service) -> Iterator[tuple[Callee, Node]]:
    pending = [(service.entry, service.tree)]
    while pending:
        callee, node = pending.pop()
        yield callee, node
        pending.extend(node.children.items())


def _service_rows(services: Services, rates: NDArray[np.float64]) -> Iterator[str]:
    names = [_class_name(index, service) for index, service in enumerate(services.services)]
    yield ",".join(["time_s", *names]) + "\n"
    for minute, row in enumerate(rates.T.tolist()):
        yield ",".join([f"{60 * minute}", *(f"{rate:.3f}" for rate in row)]) + "\n"
