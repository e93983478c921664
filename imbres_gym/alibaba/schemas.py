"""The files of cluster-trace-microservices-v2021 and v2022, recognised by their headers.

Headers as in the files, which differ from the READMEs of github.com/alibaba/clusterdata: v2021 names the utilisation
`node_cpu_usage` and `instance_cpu_usage` and begins most headers with an unnamed index column. Columns may come in any
order; others than those below are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from imbres_gym.config import ConfigError


class Table(StrEnum):
    """What a file is about."""

    HOSTS = "hosts"
    """CPU and memory utilisation of bare-metal nodes over time."""
    CONTAINERS = "containers"
    """CPU and memory utilisation of containers over time."""
    RATES = "rates"
    """Call rates and response times of containers over time."""
    CALLS = "calls"
    """Calls of sampled requests: the call graphs."""


@dataclass(frozen=True)
class Schema:
    """One kind of file of one version of the trace."""

    table: Table
    version: str | None
    """"v2021" or "v2022"; None where both versions have these columns."""
    files: str
    """How the files are called."""
    columns: dict[str, tuple[str, ...]]
    """Our name -> names in a header, any of them."""
    numbers: frozenset[str]
    """Our names of columns that hold numbers."""

    def missing(self, header: Sequence[str]) -> list[str]:
        """Columns that a header does not have, as the trace calls them."""
        return [names[0] for names in self.columns.values() if not set(names) & set(header)]

    def positions(self, header: Sequence[str]) -> dict[str, int]:
        """Our names -> position in the header."""
        return {
            ours: next(index for index, name in enumerate(header) if name in names)
            for ours, names in self.columns.items()
        }


_WHEN = {"timestamp": ("timestamp",)}
_WHO = {**_WHEN, "microservice": ("msname",), "container": ("msinstanceid",)}
_CALL = {
    **_WHEN,
    "trace": ("traceid",),
    "rpc": ("rpcid", "rpc_id"),
    "kind": ("rpctype",),
    "upstream": ("um",),
    "interface": ("interface",),
    "downstream": ("dm",),
    "rt": ("rt",),
}
_NODE = {**_WHEN, "host": ("nodeid",)}
INCOMING = ("providerrpc", "http", "consumermq")
"""How calls come in: as provider of RPCs, by HTTP, and as consumer of queued messages."""

SCHEMAS = (
    Schema(
        Table.HOSTS,
        "v2021",
        "Node.csv",
        {**_NODE, "cpu": ("node_cpu_usage",), "memory": ("node_memory_usage",)},
        frozenset({"timestamp", "cpu", "memory"}),
    ),
    Schema(
        Table.CONTAINERS,
        "v2021",
        "MSResource_*.csv",
        {**_WHO, "cpu": ("instance_cpu_usage",), "memory": ("instance_memory_usage",)},
        frozenset({"timestamp", "cpu", "memory"}),
    ),
    Schema(
        Table.CONTAINERS,
        None,
        "MSMetrics_*.csv",
        {**_WHO, "cpu": ("cpu_utilization",), "memory": ("memory_utilization",)},
        frozenset({"timestamp", "cpu", "memory"}),
    ),
    Schema(
        Table.HOSTS,
        None,
        "NodeMetrics_*.csv",
        {**_NODE, "cpu": ("cpu_utilization",), "memory": ("memory_utilization",)},
        frozenset({"timestamp", "cpu", "memory"}),
    ),
    Schema(
        Table.RATES,
        "v2021",
        "MSRTQps_*.csv",
        {**_WHO, "metric": ("metric", "metrics"), "value": ("value",)},
        frozenset({"timestamp", "value"}),
    ),
    Schema(
        Table.RATES,
        "v2022",
        "MSRTMCR_*.csv",
        {**_WHO, **{f"{way}_mcr": (f"{way}_mcr",) for way in INCOMING}},
        frozenset({"timestamp", *(f"{way}_mcr" for way in INCOMING)}),
    ),
    Schema(
        Table.CALLS,
        "v2022",
        "CallGraph_*.csv",
        {**_CALL, "service": ("service",)},
        frozenset({"timestamp", "rt"}),
    ),
    Schema(Table.CALLS, "v2021", "MSCallGraph_*.csv", _CALL, frozenset({"timestamp", "rt"})),
)
"""In this order, since containers of v2022 have all columns of hosts, and calls of v2022 all those of v2021."""


def split_header(line: str) -> list[str]:
    """The names in the first line of a file, in small letters."""
    return [name.strip().strip('"').lower() for name in line.lstrip("\ufeff").strip().split(",")]


def recognise(line: str, file: Path) -> Schema:
    """The schema of a file by its first line.

    Raises:
        ConfigError: none fits; says which is nearest and what is missing, or that there is no header.
    """
    header = split_header(line)
    fitting = [schema for schema in SCHEMAS if not schema.missing(header)]
    if fitting:
        return fitting[0]
    if any(_is_number(cell) for cell in header):
        named = [schema for schema in SCHEMAS if file.name.lower().startswith(schema.files.split("_*")[0].lower())]
        needed = f" ({','.join(names[0] for names in named[0].columns.values())})" if named else ""
        raise ConfigError(
            f"{file}: its first line {line.strip()[:60]!r} has numbers in it, so that the header is missing; put a "
            f"first line before it that names the columns{needed}, in the order of the file"
        )
    nearest = min(SCHEMAS, key=lambda schema: len(schema.missing(header)) / len(schema.columns))
    raise ConfigError(
        f"{file}: looks like {nearest.files} ({nearest.table}) of cluster-trace-microservices-"
        f"{nearest.version or 'v2022'}, but has no column {', '.join(nearest.missing(header))}; found: "
        f"{', '.join(header)}"
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
