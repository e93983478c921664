"""Where containers are placed and which are removed: a model of the default Kubernetes scheduler and of ReplicaSets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled

NOTHING_WANTED = np.zeros(0, np.int64)


def place(
    count: int,
    counts: NDArray[np.int64],
    free_cores: NDArray[np.float64],
    free_memory_mb: NDArray[np.float64],
    need: tuple[float, float],
    capacity: tuple[float, float],
    rng: np.random.Generator,
    wanted: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Place up to `count` more containers of a microservice one by one, as many as there is room for.

    Score of a host, as kube-scheduler's defaults weigh it: 2 x PodTopologySpread (fewer containers of the same
    microservice) + 1 x NodeResourcesFit with LeastAllocated (more of its cores and memory unrequested). Best-effort
    jobs request nothing. Ties are broken at random, as kube-scheduler does.

    Args:
        count: how many.
        counts: (H,) containers of the microservice on each host; brought up to date, as are the next two.
        free_cores: (H,) cores that no container has requested.
        free_memory_mb: (H,) memory likewise.
        need: cores and MB of the container.
        capacity: cores and MB of a host.
        rng: for ties and phases.
        wanted: (H,) containers that a placement wants: the host comes from those with room whose shortfall, `wanted`
            less `counts`, is the largest. None leaves it to the score.

    Returns:
        (n,) hosts, and for each container a phase in [0, 1) that is drawn after its host.
    """
    hosts, phases = np.empty(count, np.int64), np.empty(count)
    goal = NOTHING_WANTED if wanted is None else wanted
    n: int = _place(counts, free_cores, free_memory_mb, need, capacity, rng, goal, hosts, phases)
    return hosts[:n], phases[:n]


@compiled
def _place(
    counts: NDArray[np.int64],
    free_cores: NDArray[np.float64],
    free_memory_mb: NDArray[np.float64],
    need: tuple[float, float],
    capacity: tuple[float, float],
    rng: np.random.Generator,
    wanted: NDArray[np.int64],
    hosts: NDArray[np.int64],
    phases: NDArray[np.float64],
) -> int:
    """Overwrite `hosts` and `phases`, and say how many found room; without `wanted`, it is empty."""
    n_hosts = len(counts)
    allocated, score = np.empty(n_hosts), np.empty(n_hosts)
    best = np.empty(n_hosts, np.int64)
    for h in range(n_hosts):
        allocated[h] = _least_allocated(free_cores[h], free_memory_mb[h], need, capacity)
    for i in range(len(hosts)):
        most, least, largest = counts[0], counts[0], -np.inf
        for h in range(n_hosts):
            most, least = max(most, counts[h]), min(least, counts[h])
        for h in range(len(wanted)):
            if allocated[h] > -np.inf:
                largest = max(largest, wanted[h] - counts[h])
        top = -np.inf
        for h in range(n_hosts):
            spread = 100.0 * (most + least - counts[h]) / most if most > 0 else 100.0
            score[h] = 2.0 * spread + allocated[h]
            if len(wanted) > 0 and wanted[h] - counts[h] != largest:
                score[h] = -np.inf
            top = max(top, score[h])
        if top == -np.inf:
            return i
        n = 0
        for h in range(n_hosts):
            if score[h] >= top - 1e-9:
                best[n] = h
                n += 1
        host = best[0] if n == 1 else best[rng.integers(0, n)]
        hosts[i], phases[i] = host, rng.random()
        counts[host] += 1
        free_cores[host] -= need[0]
        free_memory_mb[host] -= need[1]
        allocated[host] = _least_allocated(free_cores[host], free_memory_mb[host], need, capacity)
    return len(hosts)


@compiled
def _least_allocated(
    free_cores: float, free_memory_mb: float, need: tuple[float, float], capacity: tuple[float, float]
) -> float:
    """Score of a host [0-100] with the container on it, -infinity if it does not fit."""
    if free_cores < need[0] - 1e-9 or free_memory_mb < need[1] - 1e-9:
        return -np.inf
    return 50.0 * ((free_cores - need[0]) / capacity[0] + (free_memory_mb - need[1]) / capacity[1])


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
