"""Fewest connections by integer programming (Imbres section 4.2.1, ASPLOS'25): the exact but slow way.

The program assumes that every upstream container sends exactly its share. It is what Imbres' grouping improves on.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.connections.matching import TOLERANCE, match, order_receivers, order_senders
from agents.containers import connected_pairs, ready_containers
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan, Links
from imbres_gym.telemetry import ClusterInfo


class IntegerProgramConnections:
    """Every downstream container receives its share over as few connections as can be found in the time.

    The program of a pair, with x the share of the calls on a connection and y whether it exists:
    minimise sum y subject to sum_d x_ud = share of u, sum_u x_ud = share of d, 0 <= x_ud <= min(shares) y_ud. The
    paper does not print it; this is the usual fixed-charge transportation problem, which is NP-hard. If the time is
    over, the best plan so far is used: the solver's, or the one of `matching`, which the search starts from. A pair
    is solved again only when its containers or shares change.

    A search that is cut off depends on the speed of the machine: then equal seeds need not give equal plans.

    Args:
        time_limit_s: time for all pairs of one decision together, > 0 [s]. The default is an estimate: a decision
            should take a small part of the control interval (5 s).

    Raises:
        ConfigError: the time limit is not positive.
    """

    def __init__(self, *, time_limit_s: float = 1.0) -> None:
        if time_limit_s <= 0.0:
            raise ConfigError(f"time_limit_s: {time_limit_s} must be > 0")
        self._time_limit_s = time_limit_s

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Forget all solutions."""
        self._info = info
        self._solved: dict[int, tuple[bytes, Links]] = {}

    def connect(self, observation: Observation, proportions: NDArray[np.float64]) -> ConnectionPlan:
        """Links of every pair whose microservices both have ready containers."""
        deadline = time.perf_counter() + self._time_limit_s
        plan: dict[int, Links] = {}
        for pair, _, up, down in connected_pairs(ready_containers(observation, proportions), self._info):
            problem = b"".join(array.tobytes() for array in (up.ids, up.shares, down.ids, down.shares))
            if self._solved.get(pair, (b"", None))[0] != problem:
                # What is left of the time is shared by the pairs that are left.
                left = (deadline - time.perf_counter()) / (len(self._info.pairs) - pair)
                self._solved[pair] = problem, fewest_links(up.ids, up.shares, down.ids, down.shares, left)
            plan[pair] = self._solved[pair][1]
        return ConnectionPlan(plan)


def fewest_links(
    upstream: NDArray[np.int64],
    sent: NDArray[np.float64],
    downstream: NDArray[np.int64],
    received: NDArray[np.float64],
    time_limit_s: float,
) -> Links:
    """Solve the program of one pair, or improve on the two-pointer matching as far as the time allows.

    Args:
        upstream: (n_up,) ids.
        sent: (n_up,) share of the calls that each sends, sums to 1.
        downstream: (n_down,) ids.
        received: (n_down,) share of the calls that each is to receive, sums to 1.
        time_limit_s: time for the solver; without any the matching is returned.
    """
    incumbent = match(order_senders(upstream, sent), order_receivers(downstream, received))
    # No plan has fewer links than the larger side has containers with a share: then there is nothing to search.
    bound = max(int((sent > TOLERANCE).sum()), int((received > TOLERANCE).sum()))
    if time_limit_s <= 0.0 or len(incumbent) <= bound:
        return incumbent
    with warnings.catch_warnings():
        # PuLP 3 warns of what version 4 will call otherwise (variables, and the CBC that it brings).
        warnings.simplefilter("ignore", DeprecationWarning)
        flow = _solve(sent, received, time_limit_s)
    if flow is None:
        return incumbent
    up, down = np.nonzero(flow > TOLERANCE)
    connected = len(np.unique(up)) == len(upstream)
    if not connected or len(up) >= len(incumbent):
        return incumbent
    weight = flow[up, down] / flow.sum(axis=1)[up]
    return Links(upstream[up], downstream[down], weight)


def _solve(sent: NDArray[np.float64], received: NDArray[np.float64], time_limit_s: float) -> NDArray[np.float64] | None:
    """(n_up, n_down) calls on each connection by the CBC solver; None if it found no solution in time."""
    import pulp

    # Shares are scaled to mean 1, far above the solver's feasibility tolerance (1e-7).
    scale = float(max(len(sent), len(received)))
    problem = pulp.LpProblem("connections", pulp.LpMinimize)
    x: dict[tuple[int, int], Any] = {}
    y: dict[tuple[int, int], Any] = {}
    for u in range(len(sent)):
        for d in range(len(received)):
            most = scale * min(float(sent[u]), float(received[d]))
            x[u, d] = pulp.LpVariable(f"x_{u}_{d}", 0.0, most)
            y[u, d] = pulp.LpVariable(f"y_{u}_{d}", cat=pulp.LpBinary)
            problem += x[u, d] <= most * y[u, d]
    problem.setObjective(pulp.lpSum(y.values()))
    for u in range(len(sent)):
        problem += pulp.lpSum(x[u, d] for d in range(len(received))) == scale * float(sent[u])
    # The last equation follows from the others; rounding could make it contradict them.
    for d in range(len(received) - 1):
        problem += pulp.lpSum(x[u, d] for u in range(len(sent))) == scale * float(received[d])
    problem.solve(pulp.PULP_CBC_CMD(msg=False, timeLimit=time_limit_s))
    if problem.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        return None
    flow = np.zeros((len(sent), len(received)))
    for (u, d), variable in x.items():
        flow[u, d] = max(float(variable.value() or 0.0), 0.0) / scale
    return flow
