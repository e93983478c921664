"""Where calls go: rates flow down the graph of kinds, over the links of the plan, compiled."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from imbres_gym.sim.fluid.compiled import kernel


@kernel
def propagate(kinds, fleet, rows, pool_weight, class_rps, passed, rates, by_proportions, refused):
    """Calls/s of every kind to every container, exact for the links of the plan.

    Args:
        kinds: who calls whom.
        fleet: the containers.
        rows: their links.
        pool_weight: (n,) share of a microservice's load that a container gets by the load proportions.
        class_rps: (C,) end-user requests/s.
        passed: (n,) calls that a container makes, as a share of those that its arrivals would mean: below 1 under
            overload, above 1 while it catches up.
        rates: (`fleet.kind_begin[-1]`,) is overwritten.
        by_proportions: (K,) is overwritten: calls/s that the load proportions spread.
        refused: (K,) is overwritten: calls/s of each kind that found no container.
    """
    rates[:] = 0.0
    by_proportions[:] = 0.0
    refused[:] = 0.0
    for c in range(len(class_rps)):
        by_proportions[kinds.root[c]] += class_rps[c]
    for k in range(len(kinds.microservice)):
        first = fleet.begin[kinds.microservice[k]]
        low, high = fleet.kind_begin[k], fleet.kind_begin[k + 1]
        if low == high:
            refused[k] = by_proportions[k]
            continue
        for i in range(low, high):
            rates[i] += by_proportions[k] * pool_weight[first + i - low]
        for edge in range(kinds.edge[k], kinds.edge[k + 1]):
            called, calls = kinds.edge_kind[edge], kinds.edge_calls[edge]
            row = rows.pair[kinds.edge_pair[edge]]
            shift = fleet.kind_begin[called] - fleet.begin[kinds.microservice[called]]
            spread, begin = 0.0, rows.begin[row]
            for i in range(low, high):
                rate = rates[i] * calls * passed[first + i - low]
                spread += rate * rows.spread[row]
                row += 1
                end = rows.begin[row]
                for x in range(begin, end):
                    rates[shift + rows.target[x]] += rate * rows.weight[x]
                begin = end
            by_proportions[called] += spread
