"""The cluster as plain text: one line per microservice, one column per host."""

from __future__ import annotations

from collections.abc import Sequence

from envs.metrics import class_p95_ms
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo, Telemetry

LABELS = ("cpu", "mem-bw", "net", "llc")
"""Short names of the resources, in the order of `Telemetry.interference`."""


def render_text(telemetry: Telemetry, info: ClusterInfo, observation: Observation) -> str:
    """A table of load [calls/s], p95 of the own latency [ms] and ready (+ pending) containers per host.

    Above it: the time, the worst request class against the SLA, workload, containers and connections; and the
    utilisation of each host's resources by all that runs there [%].
    """
    header = ("microservice", *info.hosts)
    rows = [_interference_row(telemetry, resource) for resource in range(len(LABELS))]
    rows.append(("",) * len(header))
    rows += [_microservice_row(telemetry, info, index) for index in range(len(info.microservices))]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [_line(header, widths), "  ".join("-" * width for width in widths)]
    lines += [_line(row, widths) for row in rows]
    return "\n".join([*_summary(telemetry, info, observation), "", *lines]) + "\n"


def _summary(telemetry: Telemetry, info: ClusterInfo, observation: Observation) -> list[str]:
    p95_ms = class_p95_ms(telemetry)
    worst = int(p95_ms.argmax())
    verdict = "meets" if p95_ms[worst] <= info.sla_ms else "BREAKS"
    pending = int(telemetry.pending.sum())
    return [
        f"t = {telemetry.time_s:.0f} s   E2E p95 {p95_ms[worst]:.1f} ms ({info.classes[worst]}) {verdict} the SLA of "
        f"{info.sla_ms:g} ms   last {info.scaling_interval_s:g} s: {observation['window_p95_ms'].max():.1f} ms",
        f"workload {telemetry.workload_rps.sum():.0f}/s   containers {telemetry.ready.sum()}"
        f"{f' (+{pending} pending)' if pending else ''}   connections {telemetry.connections.sum()}",
    ]


def _interference_row(telemetry: Telemetry, resource: int) -> tuple[str, ...]:
    return (LABELS[resource], *(f"{value:.0%}" for value in telemetry.interference[:, resource]))


def _microservice_row(telemetry: Telemetry, info: ClusterInfo, index: int) -> tuple[str, ...]:
    cells = []
    for host in range(len(info.hosts)):
        ready, pending = int(telemetry.ready[index, host]), int(telemetry.pending[index, host])
        if ready + pending == 0:
            cells.append("-")
            continue
        load, p95_ms = telemetry.load_rps[index, host], telemetry.own_p95_ms[index, host]
        cells.append(f"{load:.0f}/s {p95_ms:.1f} ms x{ready}{f'+{pending}' if pending else ''}")
    return (info.microservices[index], *cells)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first, *rest]).rstrip()
