"""What telemetry says of containers, the same for every engine that keeps them in slots."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled
from imbres_gym.sim.state import FREE, PENDING, READY
from imbres_gym.telemetry import ClusterInfo

FIELDS = (
    "container_id",
    "container_microservice",
    "container_host",
    "container_ready",
    "container_rps",
    "container_cpu",
    "container_age_s",
    "load_rps",
    "cpu_utilisation",
    "pending",
)


def container_telemetry(
    slots: NDArray[np.void],
    info: ClusterInfo,
    idle_cores: NDArray[np.float64],
    used_scale: float,
    shape: tuple[int, int],
    seconds: float,
    end_s: float,
) -> dict[str, Any]:
    """Fields of `Telemetry` that follow from the slots alone.

    Args:
        slots: records of the containers.
        info: quotas.
        idle_cores: (M,) CPU that a container uses all the time.
        used_scale: unit of `slots["used"]`, in core-seconds.
        shape: (M, H).
        seconds: length of the interval.
        end_s: its end.
    """
    values = container_fields(slots, info.cores, idle_cores, used_scale, shape[0], shape[1], seconds, end_s)
    return dict(zip(FIELDS, values, strict=True))


@compiled
def container_fields(slots, quotas, idle_cores, used_scale, n_microservices, n_hosts, seconds, end_s):
    """The values of `FIELDS`, see `container_telemetry`."""
    shown = 0
    for i in range(len(slots)):
        shown += slots[i].life == READY or slots[i].life == PENDING
    places, ids = np.zeros(shown, np.int64), np.zeros(shown, np.int64)
    shape = (n_microservices, n_hosts)
    load, quota, used, pending = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    row = 0
    for i in range(len(slots)):
        slot = slots[i]
        if slot.life == FREE:
            continue
        m, h = slot.microservice, slot.host
        load[m, h] += slot.arrivals
        quota[m, h] += quotas[m]
        used[m, h] += slot.used * used_scale / seconds + idle_cores[m]
        pending[m, h] += slot.life == PENDING
        if slot.life == READY or slot.life == PENDING:
            places[row], ids[row] = i, slot.id
            row += 1
    order = np.arange(shown)
    for row in range(1, shown):
        if ids[row] < ids[row - 1]:
            order = np.argsort(ids)
            break
    microservice, host = np.zeros(shown, np.int64), np.zeros(shown, np.int64)
    ready, rps, cpu, age = np.zeros(shown, np.bool_), np.zeros(shown), np.zeros(shown), np.zeros(shown)
    for row in range(shown):
        slot = slots[places[order[row]]]
        m = np.int64(slot.microservice)
        microservice[row], host[row], ready[row] = m, slot.host, slot.life == READY
        rps[row] = slot.arrivals / seconds
        cpu[row] = (slot.used * used_scale / seconds + idle_cores[m]) / quotas[m]
        age[row] = end_s - slot.created * 1e-3
    for m in range(n_microservices):
        for h in range(n_hosts):
            load[m, h] /= seconds
            if quota[m, h] > 0.0:
                used[m, h] /= quota[m, h]
            else:
                used[m, h] = 0.0
    return ids[order], microservice, host, ready, rps, cpu, age, load, used, pending
