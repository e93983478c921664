"""A cluster like Alibaba's: services and their call trees, microservices, containers, and hosts with interference.

Everything is in arrays; `imbres_gym.alibaba.generated` turns it into a scenario.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.alibaba.demand import CONTAINER_CORES
from imbres_gym.alibaba.interference import host_levels
from imbres_gym.alibaba.sharing import SharedTrees, share_microservices
from imbres_gym.alibaba.sizing import Sizes, kinds, size_microservices
from imbres_gym.alibaba.statistics import branching_statistics, call_statistics
from imbres_gym.alibaba.trees import draw_tree
from imbres_gym.config import ConfigError
from imbres_gym.scenario import INITIAL_UTILISATION

Floats = NDArray[np.float64]

MEAN_CONTAINERS = 200
"""Containers of a microservice, in the mean, where there is room: the 300,000 containers of 1,500 microservices."""
CONTAINERS_PER_HOST = 75
"""300,000 containers on 4,000 hosts."""


@dataclass(frozen=True)
class GeneratedCluster:
    """What `generate` yields."""

    seed: int
    shared: SharedTrees
    popularity: Floats
    """(S,) share of each service in the requests, sums to 1."""
    kind: NDArray[np.int64]
    """(M,) 0 for a microservice that end users call, 1 for a leaf, 2 for one between."""
    calls_per_request: Floats
    """(M,) expected calls of each microservice per end-user request of the mix."""
    sizes: Sizes
    n_hosts: int
    levels: Floats
    """(L,) CPU utilisation of the hosts by best-effort jobs [0-1]; host h has level h modulo L."""


def generate(microservices: int, hosts: int, seed: int, containers: int | None = None) -> GeneratedCluster:
    """Generate a cluster after Alibaba's statistics.

    Args:
        microservices: 1 to any number; 1,500 is the largest application that Imbres mentions.
        hosts: at least 1.
        seed: the same numbers give the same cluster.
        containers: of all microservices together; by default 200 for each, or as many as give 75 on each host.

    Raises:
        ConfigError: a number is too small; says which.
    """
    if containers is None:
        containers = max(microservices, min(MEAN_CONTAINERS * microservices, CONTAINERS_PER_HOST * hosts))
    for name, value, least in (
        ("microservices", microservices, 1),
        ("hosts", hosts, 1),
        ("seed", seed, 0),
        ("containers", containers, microservices),
    ):
        if value < least:
            raise ConfigError(f"--{name} {value}: must be at least {least}")
    for_trees, for_sharing, for_sizes, for_mix, for_hosts = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)
    )
    calls, branching = call_statistics(), branching_statistics()
    trees = (draw_tree(calls, branching, max(microservices, 2), for_trees) for _ in itertools.count())
    shared = share_microservices(trees, microservices, for_sharing)
    popularity = _popularity(len(shared.trees), calls.log10_requests, for_mix)
    per_request = _calls_per_request(shared, popularity)
    kind = kinds(microservices, shared.pairs(), np.unique([targets[0] for targets in shared.microservice]))
    sizes = size_microservices(per_request, kind, containers, CONTAINER_CORES, INITIAL_UTILISATION, for_sizes)
    return GeneratedCluster(seed, shared, popularity, kind, per_request, sizes, hosts, host_levels(hosts, for_hosts))


def _popularity(n_services: int, log10_requests: Floats, rng: np.random.Generator) -> Floats:
    """(S,) shares, drawn from the requests of real services."""
    drawn = np.interp(rng.random(n_services), np.linspace(0.0, 1.0, len(log10_requests)), log10_requests)
    requests = 10.0**drawn
    shares: Floats = requests / requests.sum()
    return shares


def _calls_per_request(shared: SharedTrees, popularity: Floats) -> Floats:
    total = np.zeros(shared.n_microservices)
    for tree, targets, share in zip(shared.trees, shared.microservice, popularity, strict=True):
        called = targets >= 0
        np.add.at(total, targets[called], share * tree.visits()[called])
    return total
