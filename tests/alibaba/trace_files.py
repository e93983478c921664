"""Small downloads in the schemas of both versions, whose statistics are known by hand.

Ten minutes. Each minute has three requests of the service `alpha` and one of `beta`:

    alpha: front/get -> users/find (t+1 to t+7) beside posts/list (t+2 to t+10) -> cache (0 ms)
                     -> then, in every other minute, log/write (t+12 to t+15)
    beta:  gate/open -> users/find twice

Remote calls are written down twice, by caller and callee; the entry by the callee only. A message in a queue is left
out.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

MINUTES = 10
HEADERS = {
    "v2021": {
        "Node": "timestamp,nodeid,node_cpu_usage,node_memory_usage",
        "MSResource": ",msname,msinstanceid,nodeid,instance_cpu_usage,instance_memory_usage,timestamp",
        "MSRTQps": ",timestamp,msname,msinstanceid,metric,value",
        "MSCallGraph": ",traceid,timestamp,rpcid,um,rpctype,dm,interface,rt",
    },
    "v2022": {
        "Node": "timestamp,nodeid,cpu_utilization,memory_utilization",
        "MSResource": "timestamp,msname,msinstanceid,nodeid,cpu_utilization,memory_utilization",
        "MSRTQps": "timestamp,msname,msinstanceid,nodeid,providerrpc_rt,providerrpc_mcr,consumerrpc_rt,consumerrpc_mcr,"
        "writemc_rt,writemc_mcr,readmc_rt,readmc_mcr,writedb_rt,writedb_mcr,readdb_rt,readdb_mcr,consumermq_rt,"
        "consumermq_mcr,providermq_rt,providermq_mcr,http_mcr,http_rt",
        "MSCallGraph": "timestamp,traceid,service,rpc_id,rpctype,um,uminstanceid,interface,dm,dminstanceid,rt",
    },
}
FILES = {
    "v2021": {"Node": "Node/Node", "MSResource": "MSResource/MSResource_0", "MSRTQps": "MSRTQps/MSRTQps_0"},
    "v2022": {
        "Node": "NodeMetrics/NodeMetrics_0",
        "MSResource": "MSMetrics/MSMetrics_0",
        "MSRTQps": "MSRTMCR/MSRTMCR_0",
    },
}
CALLS_FILE = {"v2021": "MSCallGraph/MSCallGraph_", "v2022": "CallGraph/CallGraph_"}
CONTAINERS = {"front": (0.1, 0.3), "users": (0.2,), "posts": (0.05,), "gate": (0.05,)}
"""CPU utilisation of each container; `log` is not measured."""
CALLS_PER_S = {"front": 200.0, "users": 400.0, "posts": 100.0, "gate": 50.0}
"""Incoming calls of each microservice in v2021."""
CALLS_PER_MINUTE = {"front": 3, "users": 3 + 2, "posts": 3, "gate": 1}
"""In the call graphs; in v2022 the rates are these times 1e-6."""
HOSTS = {"h-idle": 0.1, "h-low": 0.3, "h-mid": 0.5, "h-high": 0.7}
"""CPU utilisation in even minutes; 0.1 more in odd ones."""

Call = tuple[int, str, str, str, str, str, float]
"""timestamp, rpc id, kind, upstream, interface, downstream, rt."""


def alpha(start: int, with_log: bool) -> list[Call]:
    calls: list[Call] = [
        (start, "0", "http", "", "get", "front", -20.0),
        (start + 1, "0.1", "rpc", "front", "find", "users", 6.0),
        (start + 1, "0.1", "rpc", "(?)", "find", "users", -5.0),
        (start + 2, "0.2", "rpc", "front", "list", "posts", 8.0),
        (start + 2, "0.2", "rpc", "front", "list", "posts", -7.0),
        (start + 3, "0.2.1", "mc", "posts", "", "cache", 0.0),
        (start + 4, "0.4", "mq", "front", "", "queue", 1.0),
    ]
    if with_log:
        calls += [
            (start + 12, "0.3", "rpc", "front", "write", "log", 3.0),
            (start + 12, "0.3", "rpc", "front", "write", "", -2.0),
        ]
    return calls


def beta(start: int) -> list[Call]:
    return [
        (start, "0", "http", "", "open", "gate", -9.0),
        (start + 1, "0.1", "rpc", "gate", "find", "users", 2.0),
        (start + 1, "0.1", "rpc", "gate", "find", "users", -1.0),
        (start + 4, "0.2", "rpc", "gate", "find", "users", 2.0),
        (start + 4, "0.2", "rpc", "gate", "find", "users", -1.0),
    ]


def requests() -> list[tuple[str, str, list[Call]]]:
    """(id, service, calls) of all requests."""
    found = []
    for minute in range(MINUTES):
        start = 60_000 * minute
        found += [(f"T_{minute}_{i}", "alpha", alpha(start + 100 * i, minute % 2 == 0)) for i in range(3)]
        found.append((f"T_{minute}_b", "beta", beta(start + 900)))
    return found


def table(version: str, kind: str) -> str:
    """The text of one file; of all calls, the text of their only file."""
    rows = {"Node": _nodes, "MSResource": _resources, "MSRTQps": _rates, "MSCallGraph": _calls}[kind](version)
    if HEADERS[version][kind].startswith(","):
        rows = [f"{index},{row}" for index, row in enumerate(rows)]
    return "\n".join([HEADERS[version][kind], *rows]) + "\n"


def _nodes(version: str) -> list[str]:
    step = 30_000 if version == "v2021" else 60_000
    return [
        f"{time},{host},{cpu + 0.1 * (time // 60_000 % 2)},0.6"
        for time in range(0, 60_000 * MINUTES, step)
        for host, cpu in HOSTS.items()
    ]


def _resources(version: str) -> list[str]:
    rows = []
    for minute in range(MINUTES):
        for name, usage in CONTAINERS.items():
            for index, cpu in enumerate(usage):
                who = f"{name},{name}_{index},h-low,{cpu},0.5"
                rows.append(f"{who},{60_000 * minute}" if version == "v2021" else f"{60_000 * minute},{who}")
    return rows


def _rates(version: str) -> list[str]:
    rows = []
    for minute in range(MINUTES):
        for name, usage in CONTAINERS.items():
            way = "HTTP" if name in {"front", "gate"} else "providerRPC"
            for index in range(len(usage)):
                who = f"{60_000 * minute},{name},{name}_{index}"
                if version == "v2021":
                    rows.append(f"{who},{way}_MCR,{CALLS_PER_S[name] / len(usage)}")
                    rows.append(f"{who},{way}_RT,5.0")
                    rows.append(f"{who},consumerRPC_MCR,999.0")
                    continue
                names = HEADERS[version]["MSRTQps"].split(",")[4:]
                rate = CALLS_PER_MINUTE[name] * 1e-6 / len(usage)
                values = {f"{way.lower()}_mcr": rate, f"{way.lower()}_rt": 5.0, "consumerrpc_mcr": 0.9}
                rows.append(",".join([who, "h-low", *(str(values.get(column, 0.0)) for column in names)]))
    return rows


def _calls(version: str) -> list[str]:
    rows = []
    for trace, service, calls in requests():
        for time, rpc, kind, up, interface, down, rt in calls:
            if version == "v2021":
                rows.append(f"{trace},{time},{rpc},{up},{kind},{down},{interface},{rt:g}")
            else:
                rows.append(
                    f"{time},{trace},{service},{rpc},{kind},{up},{up}_POD_0,{interface},{down},{down}_POD_0,{rt}"
                )
    return rows


def write(folder: Path, name: str, text: str, suffix: str) -> Path:
    """Write one file of a download, packed as its suffix says."""
    path = folder / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".tar.gz":
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo(f"{Path(name).name}.csv")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    elif suffix == ".csv.gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def write_download(folder: Path, version: str, suffix: str = ".csv", call_files: int = 2) -> Path:
    """Write a whole download; requests span the files of calls."""
    for kind, name in FILES[version].items():
        write(folder, name, table(version, kind), suffix)
    header, *rows = table(version, "MSCallGraph").splitlines()
    for index in range(call_files):
        text = "\n".join([header, *rows[index::call_files]]) + "\n"
        write(folder, f"{CALLS_FILE[version]}{index}", text, suffix)
    return folder
