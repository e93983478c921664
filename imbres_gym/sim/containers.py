"""What telemetry says of containers, the same for every engine that keeps them in slots."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.routing import count_ready
from imbres_gym.sim.state import FREE, PENDING, READY
from imbres_gym.telemetry import ClusterInfo


def container_telemetry(
    slots: NDArray[np.void],
    info: ClusterInfo,
    cores_used: NDArray[np.float64],
    shape: tuple[int, int],
    seconds: float,
    end_s: float,
) -> dict[str, Any]:
    """Fields of `Telemetry` that follow from the slots alone.

    Args:
        slots: records of the containers.
        info: quotas.
        cores_used: CPU that each slot used in the interval, its idle use included [cores].
        shape: (M, H).
        seconds: length of the interval.
        end_s: its end.
    """
    alive = slots["life"] != FREE
    flat = slots["microservice"][alive].astype(np.int64) * shape[1] + slots["host"][alive]
    size = shape[0] * shape[1]
    cores = info.cores[slots["microservice"]]
    quota = np.bincount(flat, cores[alive], size).reshape(shape)
    used = np.bincount(flat, cores_used[alive], size).reshape(shape)
    shown = np.flatnonzero((slots["life"] == READY) | (slots["life"] == PENDING))
    shown = shown[np.argsort(slots["id"][shown])]
    return {
        "container_id": slots["id"][shown],
        "container_microservice": slots["microservice"][shown].astype(np.int64),
        "container_host": slots["host"][shown].astype(np.int64),
        "container_ready": slots["life"][shown] == READY,
        "container_rps": slots["arrivals"][shown] / seconds,
        "container_cpu": cores_used[shown] / cores[shown],
        "container_age_s": end_s - slots["created"][shown] * 1e-3,
        "load_rps": np.bincount(flat, slots["arrivals"][alive], size).reshape(shape) / seconds,
        "cpu_utilisation": np.divide(used, quota, out=np.zeros(shape), where=quota > 0.0),
        "pending": count_ready(slots, shape, PENDING),
    }
