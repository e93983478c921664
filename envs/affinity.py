"""From affinities between hosts to a connection plan within the connection budget.

A learned agent cannot name containers, since they come and go. It says instead how much the containers on one host
should call those on another one, per pair of microservices, and this file chooses the connections.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan, Links
from imbres_gym.telemetry import ClusterInfo


def expand_affinity(
    affinity: NDArray[np.float64],
    proportions: NDArray[np.float64],
    observation: Observation,
    info: ClusterInfo,
) -> ConnectionPlan:
    """The connection plan that follows the affinities.

    A container on host h sends to a downstream container on host g the share `affinity[pair, h, g] * D_g / S_g`, up to
    normalisation, where D are the load proportions and S the ready containers of the downstream microservice. So equal
    affinities give every downstream container its load proportion. If all of that is 0, the affinity of this host is
    taken as equal; if the load proportions are 0 too, the containers share alike.

    Every upstream container gets the same number of connections, the budget (`connections_per_container` for each
    downstream container) divided by the upstream containers, rounded down, but at least one. So a pair has at most
    as many connections as the larger of its budget and its upstream containers. If they suffice for all downstream
    containers, the shares are exact; otherwise a systematic sample, staggered over the upstream containers of a host,
    keeps the sum of shares at each downstream container near its target.

    Args:
        affinity: (P, H, H) from upstream host to downstream host, >= 0.
        proportions: (M, H) load proportions.
        observation: the current observation.
        info: fixed facts of the episode.
    """
    table = observation["containers"]
    ready = table[table[:, 3] == 1]
    links: dict[int, Links] = {}
    for pair, (upstream, downstream) in enumerate(info.pairs):
        up, down = ready[ready[:, 1] == upstream], ready[ready[:, 1] == downstream]
        if len(up) == 0 or len(down) == 0:
            continue
        target = proportions[downstream, down[:, 2]] / observation["ready"][downstream, down[:, 2]]
        links[pair] = _pair_links(up, down, affinity[pair], target, info.connections_per_container)
    return ConnectionPlan(links)


def _pair_links(
    up: NDArray[np.int64],
    down: NDArray[np.int64],
    affinity: NDArray[np.float64],
    target: NDArray[np.float64],
    connections_per_container: int,
) -> Links:
    """Links of one pair; `up` and `down` are rows of the container table, `target` the share per `down` row."""
    degree = min(max(1, connections_per_container * len(down) // len(up)), len(down))
    sources, targets, weights = [], [], []
    for host in np.unique(up[:, 2]):
        callers = up[up[:, 2] == host, 0]
        share = _normalised(affinity[host, down[:, 2]] * target, target)
        matrix = np.tile(share, (len(callers), 1)) if degree == len(down) else _sample(share, len(callers), degree)
        row, column = np.nonzero(matrix)
        sources.append(callers[row])
        targets.append(down[column, 0])
        weights.append(matrix[row, column])
    return Links(np.concatenate(sources), np.concatenate(targets), np.concatenate(weights))


def _normalised(share: NDArray[np.float64], fallback: NDArray[np.float64]) -> NDArray[np.float64]:
    """`share` with the sum 1; if it is all 0 the fallback, if that is too, equal shares."""
    for candidate in (share, fallback, np.ones(len(share))):
        if candidate.sum() > 0.0:
            break
    return np.asarray(candidate / candidate.sum())


def _sample(share: NDArray[np.float64], callers: int, degree: int) -> NDArray[np.float64]:
    """Systematic sample: (callers, n) weights, each row with at most `degree` entries, columns near `share`."""
    start = (np.arange(callers)[:, None] + 0.5) / callers
    points = (np.arange(degree)[None, :] + start) / degree
    chosen = np.minimum(np.searchsorted(np.cumsum(share), points, side="right"), len(share) - 1)
    weights = np.zeros((callers, len(share)))
    np.add.at(weights, (np.arange(callers)[:, None], chosen), 1.0 / degree)
    return weights
