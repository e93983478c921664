"""Imbres' per-microservice scaling: Algorithm 3 of the paper (section 4.3.2, ASPLOS'25).

Symbols: C containers, rho load [1/s], phi tail latency by load per container, D load proportions, alpha imbalance
index, G criticality; index i is a microservice.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from imbres_gym.observation import Observation

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Latency = Callable[[int, float], float]
"""phi_i(I_i, w): microservice, load per container [1/s] -> tail latency [ms] at its present interference."""


def imbalance_index(observation: Observation) -> Floats:
    """Lines 7-8: alpha_i = 1 + sigma_i N_i / sum_j D_j, one plus the coefficient of variation of D over hosts.

    The text calls sigma the variance; the listing, a standard deviation, is followed. D is a host's whole load, as
    printed: a balanced microservice with unequal containers per host has alpha > 1 too.

    Returns:
        (M,) float64, >= 1; 1 for a microservice without ready containers.
    """
    hosting = observation["ready"] > 0
    D = np.where(hosting, observation["proportions"].astype(np.float64), 0.0)
    N = np.maximum(hosting.sum(axis=1), 1)
    total = D.sum(axis=1)
    mean = total / N
    sigma = np.sqrt(np.where(hosting, (D - mean[:, None]) ** 2, 0.0).sum(axis=1) / N)
    alpha: Floats = 1.0 + np.divide(sigma * N, total, out=np.zeros_like(total), where=total > 0.0)
    return alpha


def scale_microservices(
    dR: int, C: Ints, phi: Latency, rho: Floats, alpha: Floats, bounds: tuple[int, int], w_max: Floats
) -> Ints:
    """Algorithm 3: hand out (or take back) dR containers one by one, each where it matters most (least).

    With a heap only the chosen microservice is looked at again: O(dR log M). As printed, latencies count alike whether
    or not a microservice is on the critical path, and interference stays as measured while containers are handed out.

    Args:
        dR: containers to add (> 0) or to remove (< 0).
        C: (M,) containers now.
        phi: tail latency by microservice and load per container.
        rho: (M,) calls/s to each microservice.
        alpha: (M,) weight of each microservice.
        bounds: least and largest count of a microservice.
        w_max: (M,) load that one container can support [1/s], inf where unknown: none is taken from a microservice that
            it would push above. Not in the listing; but section 6.6 has the target CPU utilisation "determine the
            maximum load that individual microservice containers can support", and reports that allocations follow it.
            Without it, a microservice of two containers loses one as soon as its table has only seen light loads.

    Returns:
        (M,) int64 containers; fewer than |dR| are changed only if all microservices are at their bounds, or, in scaling
        in, at their maximum load.
    """
    C = C.copy()
    f = 1 if dR > 0 else -1  # line 2

    def entry(i: int) -> tuple[float, float, int]:
        """Heap entry of microservice i: the smallest is the most critical."""
        w = rho[i] / C[i]
        # Line 9. In scaling in, G <= 0, and alpha >= 1 makes it worse: an imbalanced microservice is spared.
        G = alpha[i] * (phi(i, w) - phi(i, rho[i] / (C[i] + f)))
        # Ties (an empty table): add where the load per container is largest, remove where it is smallest.
        return -G, -f * w, i

    def eligible(i: int) -> bool:
        return _can_change(i, C, f, rho, bounds, w_max)

    heap = [entry(i) for i in range(len(C)) if eligible(i)]
    heapq.heapify(heap)
    while dR != 0 and heap:  # line 3
        k = heap[0][2]  # line 10
        C[k] += f  # line 11
        dR -= f  # line 12
        if eligible(k):
            heapq.heapreplace(heap, entry(k))
        else:
            heapq.heappop(heap)
    return C


def scale_at_random(
    dR: int, C: Ints, rng: np.random.Generator, rho: Floats, bounds: tuple[int, int], w_max: Floats
) -> Ints:
    """The ablation "Random" of section 6.4: every container goes to (or comes from) a random microservice.

    Args:
        dR: containers to add (> 0) or to remove (< 0).
        C: (M,) containers now.
        rng: source of randomness.
        rho: (M,) calls/s to each microservice.
        bounds: least and largest count of a microservice.
        w_max: (M,) load that one container can support [1/s]; the same guard as in Algorithm 3, so that only the
            criterion differs.
    """
    C = C.copy()
    f = 1 if dR > 0 else -1
    for _ in range(abs(dR)):
        eligible = [i for i in range(len(C)) if _can_change(i, C, f, rho, bounds, w_max)]
        if not eligible:
            break
        C[rng.choice(eligible)] += f
    return C


def _can_change(i: int, C: Ints, f: int, rho: Floats, bounds: tuple[int, int], w_max: Floats) -> bool:
    """Whether microservice i may gain (f = 1) or lose (f = -1) a container; below its least count it may only gain."""
    if f > 0:
        return bool(C[i] < bounds[1])
    return bool(C[i] > max(bounds[0], 1) and rho[i] <= w_max[i] * (C[i] - 1))
