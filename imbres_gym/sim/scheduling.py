"""Where containers are placed and which are removed: a model of the default Kubernetes scheduler and of ReplicaSets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def place(
    counts: NDArray[np.int64],
    free_cores: NDArray[np.floating[Any]],
    free_memory_mb: NDArray[np.floating[Any]],
    need: tuple[float, float],
    capacity: tuple[float, float],
    rng: np.random.Generator,
) -> int:
    """Host for one more container of a microservice, or -1 if none has room.

    Score of a host, as kube-scheduler's defaults weigh it: 2 x PodTopologySpread (fewer containers of the same
    microservice) + 1 x NodeResourcesFit with LeastAllocated (more of its cores and memory unrequested). Best-effort
    jobs request nothing. Ties are broken at random, as kube-scheduler does.

    Args:
        counts: (H,) containers of the microservice on each host.
        free_cores: (H,) cores that no container has requested.
        free_memory_mb: (H,) memory likewise.
        need: cores and MB of the container.
        capacity: cores and MB of a host.
        rng: for ties.
    """
    fits = (free_cores >= need[0] - 1e-9) & (free_memory_mb >= need[1] - 1e-9)
    if not fits.any():
        return -1
    most, least = int(counts.max()), int(counts.min())
    spread = 100.0 * (most + least - counts) / most if most > 0 else np.full(len(counts), 100.0)
    allocated = 50.0 * ((free_cores - need[0]) / capacity[0] + (free_memory_mb - need[1]) / capacity[1])
    score = np.where(fits, 2.0 * spread + allocated, -np.inf)
    best = np.flatnonzero(score >= score.max() - 1e-9)
    return int(best[0] if len(best) == 1 else rng.choice(best))


def removal_order(
    ready: NDArray[np.bool_], host: NDArray[np.int64], created: NDArray[np.float64], ids: NDArray[np.int64]
) -> NDArray[np.intp]:
    """Order in which a ReplicaSet deletes the containers of one microservice.

    Not ready first, then those on the host with most ready ones, then the youngest, then the highest id (Kubernetes
    documentation, ReplicaSet, "Scaling a ReplicaSet"; pod deletion costs are not modelled).
    """
    crowd = np.bincount(host[ready], minlength=int(host.max(initial=0)) + 1)[host] if len(host) else host
    return np.lexsort((-ids, -created, -crowd, ready))
