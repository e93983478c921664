"""Where containers are placed and which are removed: a model of the default Kubernetes scheduler and of ReplicaSets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled

NOTHING_WANTED = np.zeros(0, np.int64)


def place(
    counts: NDArray[np.int64],
    free_cores: NDArray[np.floating[Any]],
    free_memory_mb: NDArray[np.floating[Any]],
    need: tuple[float, float],
    capacity: tuple[float, float],
    rng: np.random.Generator,
    wanted: NDArray[np.int64] | None = None,
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
        wanted: (H,) containers that a placement wants: the host comes from those with room whose shortfall, `wanted`
            less `counts`, is the largest. None leaves it to the score.
    """
    best = np.empty(len(counts), np.int64)
    n = _best_hosts(
        counts, free_cores, free_memory_mb, need, capacity, NOTHING_WANTED if wanted is None else wanted, best
    )
    if n == 0:
        return -1
    return int(best[0] if n == 1 else best[rng.integers(n)])


@compiled
def _best_hosts(
    counts: NDArray[np.int64],
    free_cores: NDArray[np.float64],
    free_memory_mb: NDArray[np.float64],
    need: tuple[float, float],
    capacity: tuple[float, float],
    wanted: NDArray[np.int64],
    best: NDArray[np.int64],
) -> int:
    """Fill `best` with the hosts of the highest score, and say how many they are; without `wanted`, it is empty."""
    largest = -np.inf
    for h in range(len(wanted)):
        if free_cores[h] >= need[0] - 1e-9 and free_memory_mb[h] >= need[1] - 1e-9:
            largest = max(largest, wanted[h] - counts[h])
    most, least = counts.max(), counts.min()
    score = np.full(len(counts), -np.inf)
    for h in range(len(counts)):
        if free_cores[h] < need[0] - 1e-9 or free_memory_mb[h] < need[1] - 1e-9:
            continue
        if len(wanted) > 0 and wanted[h] - counts[h] != largest:
            continue
        spread = 100.0 * (most + least - counts[h]) / most if most > 0 else 100.0
        allocated = 50.0 * ((free_cores[h] - need[0]) / capacity[0] + (free_memory_mb[h] - need[1]) / capacity[1])
        score[h] = 2.0 * spread + allocated
    n, limit = 0, score.max() - 1e-9
    for h in range(len(counts)):
        if score[h] >= limit and score[h] > -np.inf:
            best[n] = h
            n += 1
    return n


def removal_order(
    ready: NDArray[np.bool_],
    host: NDArray[np.int64],
    created: NDArray[np.float64],
    ids: NDArray[np.int64],
    wanted: NDArray[np.int64] | None = None,
) -> NDArray[np.intp]:
    """Order in which the n containers of one microservice are deleted.

    As a ReplicaSet does it: not ready first, then those on the host with most ready ones, then the youngest, then the
    highest id (Kubernetes documentation, ReplicaSet, "Scaling a ReplicaSet"; pod deletion costs are not modelled).
    With a placement, each comes from the host whose surplus, containers less wanted ones, is the largest then.

    Args:
        ready: (n,) takes requests.
        host: (n,) host index.
        created: (n,) time of creation [ms].
        ids: (n,) container ids.
        wanted: (H,) containers that a placement wants; None without one.
    """
    crowd = np.bincount(host[ready], minlength=int(host.max(initial=0)) + 1)[host] if len(host) else host
    order = np.lexsort((-ids, -created, -crowd, ready))
    if wanted is None:
        return order
    surplus = np.bincount(host, minlength=len(wanted)) - wanted
    left = np.zeros(len(order), np.int64)  # surplus of its host when a container's turn comes
    for place, container in enumerate(order):
        left[place] = surplus[host[container]]
        surplus[host[container]] -= 1
    return order[np.argsort(-left, kind="stable")]
