"""What telemetry says of containers, the same for every engine that keeps them in slots."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled_with
from imbres_gym.sim import state
from imbres_gym.sim.state import FREE, PENDING, READY
from imbres_gym.telemetry import ClusterInfo

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class OfContainers(NamedTuple):
    """The fields of `Telemetry` that follow from the containers alone; there may be room for more of them."""

    container_id: Ints
    container_microservice: Ints
    container_host: Ints
    container_ready: NDArray[np.bool_]
    container_rps: Floats
    container_cpu: Floats
    container_age_s: Floats
    load_rps: Floats
    cpu_utilisation: Floats
    pending: Ints


def container_telemetry(
    slots: NDArray[np.void],
    info: ClusterInfo,
    idle_cores: Floats,
    used_scale: float,
    shape: tuple[int, int],
    seconds: float,
    end_s: float,
) -> dict[str, Any]:
    """The fields `OfContainers`.

    Args:
        slots: records of the containers.
        info: quotas.
        idle_cores: (M,) CPU that a container uses all the time.
        used_scale: unit of `slots["used"]`, in core-seconds.
        shape: (M, H).
        seconds: length of the interval.
        end_s: its end.
    """
    shown = int(np.count_nonzero((slots["life"] == READY) | (slots["life"] == PENDING)))
    fields = OfContainers(
        *(np.zeros(shown, kind) for kind in (np.int64, np.int64, np.int64, np.bool_, float, float, float)),
        *(np.zeros(shape, kind) for kind in (float, float, np.int64)),
    )
    count_containers(slots, info.cores, idle_cores, used_scale, seconds, end_s, fields)
    return fields._asdict()


@compiled_with(Path(state.__file__))
def count_containers(slots, quotas, idle_cores, used_scale, seconds, end_s, out):
    """Overwrite the fields `OfContainers` of `out`, see `container_telemetry`; returns how many containers there are.

    They are in the order of their ids; those for which there is no room are left out.
    """
    load, used, pending = out.load_rps, out.cpu_utilisation, out.pending
    quota = np.zeros(load.shape)
    load[:] = 0.0
    used[:] = 0.0
    pending[:] = 0
    places, ids = np.zeros(len(slots), np.int64), np.zeros(len(slots), np.int64)
    shown, ordered = 0, True
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
            places[shown], ids[shown] = i, slot.id
            ordered = ordered and (shown == 0 or ids[shown - 1] < ids[shown])
            shown += 1
    if not ordered:
        places[:shown] = places[:shown][np.argsort(ids[:shown])]
    shown = min(shown, len(out.container_id))
    for row in range(shown):
        slot = slots[places[row]]
        m = np.int64(slot.microservice)
        out.container_id[row], out.container_microservice[row], out.container_host[row] = slot.id, m, slot.host
        out.container_ready[row] = slot.life == READY
        out.container_rps[row] = slot.arrivals / seconds
        out.container_cpu[row] = (slot.used * used_scale / seconds + idle_cores[m]) / quotas[m]
        out.container_age_s[row] = end_s - slot.created * 1e-3
    for m in range(load.shape[0]):
        for h in range(load.shape[1]):
            load[m, h] /= seconds
            if quota[m, h] > 0.0:
                used[m, h] /= quota[m, h]
            else:
                used[m, h] = 0.0
    return shown
