"""How many containers each generated microservice has, and how much CPU its calls need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONTAINERS_BY_KIND = np.array([16.0, 17.0, 41.0])
"""Mean containers of a microservice that end users call, of a leaf, and of one between: Winchester et al. 2025 (arXiv
2504.13141), Table 1."""
LOAD_EXPONENT = 0.5
"""Containers grow with this power of the load; the rest is work per call (rarely called, heavier work): estimate."""
CONTAINERS_SPREAD = 0.5
"""Standard deviation of the logarithm of what else the containers depend on: estimate."""
FEWEST, MOST = 0.05, 5.0
"""Limits of the containers of a microservice, times the mean: with a mean of 200, from tens to hundreds, as in Imbres
section 6.4."""
MEAN_CPU_MS = 5.0
"""Mean CPU demand of a call [core-ms]: estimate, about half the mean response time of 11 ms in 64.7 million calls of
the v2022 trace."""
CPU_MS_LIMITS = (0.16, 25.0)
"""Limits of the mean CPU demand of a microservice's calls [core-ms]: the least of any call in the applications that
Erms and Sinan measured (`configs/applications`), and the 95th percentile of those response times; estimates here."""


@dataclass(frozen=True)
class Sizes:
    """What runs where the trees are called. Arrays are (M,)."""

    containers: NDArray[np.int64]
    cpu_ms: Floats
    """Mean CPU demand of one call [core-ms]."""
    rps: float
    """End-user requests/s of all services together."""


def kinds(n_microservices: int, pairs: NDArray[np.int64], entries: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M,) 0 for a microservice that end users call, 1 for a leaf, 2 for one between."""
    kind = np.ones(n_microservices, dtype=np.int64)
    kind[pairs[:, 0]] = 2
    kind[entries] = 0
    return kind


def size_microservices(
    calls_per_request: Floats,
    kind: NDArray[np.int64],
    n_containers: int,
    cores: float,
    utilisation: float,
    rng: np.random.Generator,
) -> Sizes:
    """Give `n_containers` to the microservices, then the work that keeps them at `utilisation`.

    Args:
        calls_per_request: (M,) expected calls of each microservice per end-user request, > 0.
        kind: (M,) of each, see `kinds`.
        n_containers: of all together, at least one each.
        cores: CPU quota of a container [cores].
        utilisation: mean CPU demand of a microservice as a share of its quota [0-1]; lower for those whose calls would
            be heavier than `CPU_MS_LIMITS` allow.
        rng: source of the draws.
    """
    weight = CONTAINERS_BY_KIND[kind] * calls_per_request**LOAD_EXPONENT
    weight *= np.exp(CONTAINERS_SPREAD * rng.standard_normal(len(kind)))
    containers = _round_to_sum(_limited(weight, n_containers), n_containers)
    supply = 1000.0 * cores * utilisation * containers  # core-ms per second
    lightest, heaviest = CPU_MS_LIMITS
    rps = float(supply.sum() / MEAN_CPU_MS / calls_per_request.sum())
    rps = min(rps, float((supply / (lightest * calls_per_request)).min()))
    cpu_ms = np.minimum(supply / (rps * calls_per_request), heaviest)
    return Sizes(containers, cpu_ms, rps)


def _limited(weight: Floats, total: int) -> Floats:
    """Shares of `total` in proportion to the weights, but within `FEWEST` and `MOST` times their mean."""
    mean = total / len(weight)
    low, high = max(1.0, FEWEST * mean), max(1.0, MOST * mean)
    scale_low, scale_high = low / weight.max(), high / weight.min()
    for _ in range(100):  # the sum grows with the scale, so that bisection finds it
        scale = np.sqrt(scale_low * scale_high)
        if np.clip(weight * scale, low, high).sum() < total:
            scale_low = scale
        else:
            scale_high = scale
    shares: Floats = np.clip(weight * scale, low, high)
    return shares


def _round_to_sum(shares: Floats, total: int) -> NDArray[np.int64]:
    """Whole numbers of at least 1 near the shares, with this sum: the largest fractions are rounded up."""
    counts = np.maximum(np.floor(shares).astype(np.int64), 1)
    missing = total - int(counts.sum())
    order = np.argsort(counts - shares, kind="stable")
    for step in range(max(missing, 0)):
        counts[order[step % len(order)]] += 1
    return counts
