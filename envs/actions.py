"""Any object as a legal part of a plan: what an action means and what happens to an illegal one.

Nothing here raises on an illegal action. A part of the wrong shape or type is ignored, so that what is in force stays
in force, and counts once; inside a part of the right shape each illegal piece is repaired or dropped and counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.spaces import GraphInstance
from numpy.typing import NDArray

from imbres_gym.action import decode_connections
from imbres_gym.jit import compiled
from imbres_gym.observation import Observation
from imbres_gym.plan import FLOAT32, FULL_CONNECTION, Balancer, ConnectionPlan, project_proportions
from imbres_gym.telemetry import ClusterInfo


def read_proportions(action: Any, ready: NDArray[np.int64]) -> tuple[NDArray[np.float64] | None, int]:
    """Load proportions (M, H) by the rule of `project_proportions`, and how many rows it had to change.

    The action is read as float32, the dtype of its space: what overflows it counts as infinite.
    """
    values = _as_float32(action)
    if values is None or values.shape != ready.shape:
        return None, 1
    return project_proportions(values, ready)


def read_connections(
    action: Any, look: Callable[[], Observation], info: ClusterInfo
) -> tuple[ConnectionPlan | None, int]:
    """The connection plan that a graph means, and how many of its edges were illegal and left out.

    The observation, to which rows of the container table belong, is looked at only if there are edges.

    An edge is illegal if one of its containers is unknown, if the two microservices are no pair, or if its weight is
    NaN, infinite or negative. A graph without edges is the full connection.
    """
    links, edges = getattr(action, "edge_links", None), getattr(action, "edges", None)
    if not isinstance(action, GraphInstance) or (links is None) != (edges is None):
        return None, 1
    if links is None:
        return FULL_CONNECTION, 0
    weights = _as_float32(edges)
    if not _is_edge_list(links) or weights is None or weights.shape not in {(len(links),), (len(links), 1)}:
        return None, 1
    return decode_connections(GraphInstance(action.nodes, weights, links), look(), info.pairs)


def read_replicas(action: Any, info: ClusterInfo) -> tuple[NDArray[np.int64] | None, int]:
    """Replica counts (M,), clipped to `min_replicas..max_replicas`, and how many had to be clipped.

    Real numbers are accepted if they are whole; anything else is of the wrong type.
    """
    return _read_counts(action, (len(info.microservices),), info.min_replicas, info.max_replicas)


def read_balancer(action: Any) -> tuple[Balancer | None, int]:
    """The balancer, given as such or by its name (`Balancer.PREQUAL` or "prequal"), and 1 if there is none like it."""
    if isinstance(action, str) and action in set(Balancer):
        return Balancer(action), 0
    return None, 1


def read_placement(action: Any, info: ClusterInfo) -> tuple[NDArray[np.int64] | None, int]:
    """Wanted containers per host (M, H), clipped to `0..max_replicas`, and how many entries had to be clipped.

    Real numbers are accepted if they are whole; anything else is of the wrong type.
    """
    return _read_counts(action, (len(info.microservices), len(info.hosts)), 0, info.max_replicas)


def _read_counts(action: Any, shape: tuple[int, ...], low: int, high: int) -> tuple[NDArray[np.int64] | None, int]:
    numbers = _as_numbers(action)
    if numbers is None or numbers.shape != shape:
        return None, 1
    whole = numbers.dtype.kind == "i"
    values = np.ascontiguousarray(numbers, np.int64 if whole else np.float64)
    if not whole and not np.all(np.isfinite(values) & (values == np.floor(values))):
        return None, 1
    clipped = np.empty(shape, np.int64)
    changed: int = _clip(values.ravel(), low, high, clipped.ravel())
    return clipped, changed


@compiled
def _clip(values: NDArray[Any], low: int, high: int, clipped: NDArray[np.int64]) -> int:
    """Whole numbers between two bounds, into `clipped`, and how many were not."""
    changed = 0
    for place in range(len(values)):
        clipped[place] = np.int64(min(max(values[place], low), high))
        changed += clipped[place] != values[place]
    return changed


def _as_numbers(action: Any) -> NDArray[Any] | None:
    """The action as an array of integers or real numbers; None if it is none."""
    try:
        values = np.asarray(action)
    except (TypeError, ValueError):
        return None
    return values if values.dtype.kind in "iuf" else None


def _as_float32(action: Any) -> NDArray[np.float32] | None:
    values = _as_numbers(action)
    if values is None or values.dtype == FLOAT32:
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _is_edge_list(links: Any) -> bool:
    return (
        isinstance(links, np.ndarray)
        and np.issubdtype(links.dtype, np.integer)
        and links.ndim == 2
        and links.shape[1] == 2
    )
