"""Imbres' per-microservice scaling: Algorithm 3 of the paper (section 4.3.2, ASPLOS'25).

Symbols: C containers, rho load [1/s], phi tail latency by load per container, D load proportions, alpha imbalance
index, G criticality; index i is a microservice.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled
from imbres_gym.observation import Observation

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Latency = Callable[[Ints, Floats], Floats]
"""phi_i(I_i, w): microservices, loads per container [1/s] -> tail latencies [ms] at their present interference."""


def imbalance_index(observation: Observation) -> Floats:
    """Lines 7-8: alpha_i = 1 + sigma_i N_i / sum_j D_j, one plus the coefficient of variation of D over hosts.

    The text calls sigma the variance; the listing, a standard deviation, is followed. D is a host's whole load, as
    printed: a balanced microservice with unequal containers per host has alpha > 1 too.

    Returns:
        (M,) float64, >= 1; 1 for a microservice without ready containers.
    """
    ready = observation["ready"]
    cells = np.flatnonzero(ready > 0)  # the (microservice, host) with containers: on many hosts they are few
    i, count = cells // ready.shape[1], len(ready)
    D = observation["proportions"].ravel()[cells].astype(np.float64)
    N = np.maximum(np.bincount(i, minlength=count), 1)
    total = np.bincount(i, D, count)
    sigma = np.sqrt(np.bincount(i, (D - (total / N)[i]) ** 2, count) / N)
    alpha: Floats = 1.0 + np.divide(sigma * N, total, out=np.zeros(count), where=total > 0.0)
    return alpha


def scale_microservices(
    dR: int, C: Ints, phi: Latency, rho: Floats, alpha: Floats, bounds: tuple[int, int], w_max: Floats
) -> Ints:
    """Algorithm 3: hand out (or take back) dR containers one by one, each where it matters most (least).

    The gain of a microservice's next container depends on nothing but its own count. So the next few of every
    microservice are computed in one batch, and handed out with a heap, each in O(log M); should a microservice get all
    that were computed for it, it is done again with more. As printed, latencies count alike whether or not a
    microservice is on the critical path, and interference stays as measured while containers are handed out.

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
    f = 1 if dR > 0 else -1  # line 2
    room = _room(C, f, rho, bounds, w_max)
    steps = np.minimum(room, 4 + 2 * abs(dR) // len(C))
    while True:
        # Side by side for all microservices: the present count, and that after each step.
        first = np.cumsum(steps + 1) - steps - 1
        i = np.repeat(np.arange(len(C)), steps + 1)
        count = C[i] + f * (np.arange(len(i)) - first[i])
        w = rho[i] / count
        latency = phi(i, w)
        # Line 9. In scaling in, G <= 0, and alpha >= 1 makes it worse: an imbalanced microservice is spared.
        G = alpha[i[:-1]] * (latency[:-1] - latency[1:])
        # Ties (an empty table): add where the load per container is largest, remove where it is smallest.
        given: Ints = _hand_out(abs(dR), first, steps, G, f * w)
        short = (given == steps) & (steps < room)
        if not short.any():
            return C + f * given
        steps = np.where(short, np.minimum(room, 4 * steps), steps)


@compiled
def _hand_out(dR: int, first: Ints, steps: Ints, G: Floats, tie: Floats) -> Ints:
    """Lines 3-12: how many containers each microservice gets.

    Args:
        dR: containers to hand out.
        first: (M,) position in G of each microservice's first step.
        steps: (M,) how many it has.
        G: criticality of every possible step.
        tie: of equal steps the one with the largest comes first, and then that of the first microservice.
    """
    # The smallest entry of the heap is the most critical step.
    heap = [(-G[first[i]], -tie[first[i]], i) for i in range(len(first)) if steps[i] > 0]
    heapq.heapify(heap)
    given = np.zeros(len(first), np.int64)
    while dR != 0 and len(heap) > 0:  # line 3
        k = heap[0][2]  # line 10
        given[k] += 1  # line 11
        dR -= 1  # line 12
        if given[k] < steps[k]:
            step = first[k] + given[k]
            heapq.heapreplace(heap, (-G[step], -tie[step], k))
        else:
            heapq.heappop(heap)
    return given


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
        eligible = np.flatnonzero(_room(C, f, rho, bounds, w_max))
        if eligible.size == 0:
            break
        C[rng.choice(eligible)] += f
    return C


def _room(C: Ints, f: int, rho: Floats, bounds: tuple[int, int], w_max: Floats) -> Ints:
    """(M,) how many containers each microservice may gain (f = 1) or lose (f = -1), one after the other.

    Below its least count it may only gain. It may lose containers until one less would have to support more than w_max.
    """
    if f > 0:
        return np.maximum(bounds[1] - C, 0)
    w_max = np.minimum(w_max, 1e300)  # so that no infinity is multiplied by zero
    needed = np.divide(rho, w_max, out=np.where(rho > 0.0, np.inf, 0.0), where=w_max > 0.0)
    needed = np.minimum(np.ceil(needed), C)
    needed -= w_max * (needed - 1.0) >= rho  # the quotient is rounded: the products decide
    needed += w_max * needed < rho
    return np.maximum(C - np.maximum(needed.astype(np.int64), max(bounds[0], 1)), 0)
