"""Descends from a generous allocation to one from which no container can be removed without missing the SLA.

A heuristic: the result is an upper bound of the true minimum. Coarse to fine: all microservices are scaled together
by bisection; load shares and the connection scheme are chosen by simulation; then batches of containers are removed
where that harms the p95 least, in batches that get smaller, down to single containers. What is left is checked at
length with other seeds; where it fails there, everything grows by a common factor and is trimmed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imbres_gym.config import ConfigError
from imbres_gym.oracle.simulate import Allocation, Effort, Simulator, usual_limit
from imbres_gym.oracle.truth import counts_at, host_levels, stretches

PROBE = Effort(seeds=(2000, 2001), windows=1, window_s=30.0, settle_s=15.0)
"""Which of two allocations is better."""
TRIAL = Effort(seeds=(2000, 2001, 2002), windows=1, window_s=60.0, settle_s=30.0)
"""Whether an allocation seems feasible."""
CHECK = Effort(seeds=tuple(range(2100, 2108)), windows=3, window_s=60.0, settle_s=40.0)
"""Whether it is: 24 windows with seeds that the search has not seen. Where the scheduler puts the few containers of a
small microservice differs from seed to seed and decides more than the noise of a window: many seeds, few windows."""
ALLOWED = 0.05
"""Share of windows above the SLA that the check allows: the evaluation's own criterion."""

BISECTIONS = 6
"""Steps of the common scale: 1/64 of the range of utilisation is less than a container of most microservices."""
BATCH = 0.1
"""Share of a microservice's containers that the first round tries to remove; it halves from round to round."""
EXPONENTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Load per container is tried in proportion to stretch ** -exponent: 0 is balanced, 1 equalises utilisation."""
GROWTH = 0.02
"""Share by which everything grows where the check fails, at first and as the resolution."""
CONNECTIONS = ("agents.connections.full:FullConnections", "agents.connections.fewest:FewestConnections")
"""Connection schemes that are tried: both carry the shares exactly."""


Criterion = Callable[[Simulator, Allocation], bool]
"""Whether an allocation is good enough."""


def search(simulator: Simulator, start: Allocation | None = None) -> Allocation:
    """The allocation with the fewest containers that was found feasible.

    Args:
        simulator: of the scenario.
        start: one that is known to be good, say of the same scenario with a stricter SLA; if it is feasible here, the
            fine part of the search begins there and the coarse part is left out.

    Raises:
        ConfigError: no allocation inside the scenario's limits meets the SLA.
    """
    if start is not None and feasible(simulator, start):
        allocation = start
    else:
        allocation = descend(simulator, _with_best_shares(simulator, scale_together(simulator)))
    allocation = descend(simulator, _with_best_shares(simulator, allocation), batch=0.0)
    return _until_checked(simulator, allocation)


def meets_sla(simulator: Simulator, p95_ms: NDArray[np.float64]) -> bool:
    """Whether all windows of a check were measured, and enough of them are within the SLA: these, and likely others."""
    complete = len(p95_ms) == len(CHECK.seeds) * CHECK.windows
    violated = float(np.mean(p95_ms > simulator.scenario.sla_ms))
    return complete and violated <= ALLOWED and usual_limit(p95_ms) <= simulator.scenario.sla_ms


def feasible(simulator: Simulator, allocation: Allocation) -> bool:
    """Whether the windows of a trial meet the SLA."""
    return simulator.score(allocation, TRIAL) <= 1.0


def scale_together(simulator: Simulator) -> Allocation:
    """The highest common utilisation that is feasible, by bisection; balanced load, full connection."""
    scenario = simulator.scenario
    hosts = host_levels(scenario).shape[0]

    def at(share: float) -> Allocation:
        counts = counts_at(scenario, share)
        return Allocation(counts, np.ones((len(counts), hosts)), CONNECTIONS[0])

    low, high = 0.0, 1.0
    best: Allocation | None = None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        if _fits(simulator, at(middle)) and feasible(simulator, at(middle)):
            low, best = middle, at(middle)
        elif _fits(simulator, at(middle)):
            high = middle
        else:
            low = middle  # too many containers for the hosts
    if best is None:
        raise _impossible(simulator)
    return best


def _fits(simulator: Simulator, allocation: Allocation) -> bool:
    """Whether the hosts have the cores and the memory."""
    scenario = simulator.scenario
    names = scenario.application.microservice_names
    cores = np.array([scenario.application.cores_of(name) for name in names])
    memory_mb = np.array([scenario.application.memory_of(name) for name in names])
    hosts = scenario.hosts
    return bool(
        allocation.replicas @ cores <= hosts.count * hosts.cores
        and allocation.replicas @ memory_mb <= hosts.count * hosts.memory_mb
    )


def _with_best_shares(simulator: Simulator, allocation: Allocation) -> Allocation:
    """The exponent of the stretch and the connection scheme with the lowest score in a trial, or those in force."""
    stretch = stretches(simulator.scenario, simulator.utilisation(allocation, PROBE))
    schemes = [replace(allocation, weights=_rounded(1.0 / stretch), connections=scheme) for scheme in CONNECTIONS]
    best = min(schemes, key=lambda variant: simulator.score(variant, TRIAL))
    variants = [replace(best, weights=_rounded(stretch**-exponent)) for exponent in EXPONENTS]
    return min([allocation, *variants], key=lambda variant: simulator.score(variant, TRIAL))


def _rounded(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """As a record keeps them, so that what is checked is what is played back."""
    return np.round(weights, 4)


def descend(
    simulator: Simulator, allocation: Allocation, batch: float = BATCH, suffices: Criterion = feasible
) -> Allocation:
    """Remove containers until no single one can go without breaking a criterion; `batch` is the share to begin with."""
    while True:
        sizes = np.maximum(1, np.floor(batch * allocation.replicas)).astype(np.int64)
        smaller = _remove_some(simulator, allocation, sizes, suffices)
        if smaller is None and np.all(sizes == 1):
            return allocation
        if smaller is None:
            batch /= 2.0
        else:
            allocation = smaller


def _remove_some(
    simulator: Simulator, allocation: Allocation, sizes: NDArray[np.int64], suffices: Criterion
) -> Allocation | None:
    """Remove batches from as many microservices at once as stays feasible, least harmful first; None if from none."""
    candidates = np.flatnonzero(allocation.replicas - sizes >= simulator.scenario.min_replicas)
    harm = {int(i): simulator.score(_without(allocation, [int(i)], sizes), PROBE) / sizes[i] for i in candidates}
    order = sorted(harm, key=lambda i: harm[i])
    taken = len(order)
    while taken > 1:
        smaller = _without(allocation, order[:taken], sizes)
        if suffices(simulator, smaller):
            return smaller
        taken //= 2
    for index in order:  # not even the least harmful two together: one at a time
        smaller = _without(allocation, [index], sizes)
        if suffices(simulator, smaller):
            return smaller
    return None


def _without(allocation: Allocation, chosen: list[int], sizes: NDArray[np.int64]) -> Allocation:
    replicas = allocation.replicas.copy()
    replicas[chosen] -= sizes[chosen]
    return replace(allocation, replicas=replicas)


def _until_checked(simulator: Simulator, allocation: Allocation) -> Allocation:
    """Let all microservices grow by the least common factor with which the check is passed, and take away what can go.

    Growing the most helpful one at a time was tried first: with the noise of a probe it went astray where many
    microservices are short together (Train Ticket at a strict SLA: 659 containers after 230 additions).

    Raises:
        ConfigError: the check fails with as many containers as the scenario allows.
    """

    def grown(share: float) -> Allocation:
        larger = np.ceil(allocation.replicas * (1.0 + share) - 1e-9).astype(np.int64)
        return replace(allocation, replicas=np.minimum(larger, simulator.scenario.max_replicas))

    def passes(candidate: Allocation) -> bool:
        return meets_sla(simulator, simulator.window_p95_ms(candidate, CHECK))

    def suffices(_: Simulator, candidate: Allocation) -> bool:
        return feasible(simulator, candidate) and passes(candidate)  # the trial is cheap and refuses most

    if passes(allocation):
        return allocation
    low, high = 0.0, GROWTH
    while not passes(grown(high)):
        larger = grown(2.0 * high)
        if not _fits(simulator, larger) or np.array_equal(larger.replicas, grown(high).replicas):
            raise _impossible(simulator)
        low, high = high, 2.0 * high
    while high - low > GROWTH:
        middle = (low + high) / 2.0
        low, high = (low, middle) if passes(grown(middle)) else (middle, high)
    return descend(simulator, grown(high), GROWTH, suffices)


def _impossible(simulator: Simulator) -> ConfigError:
    scenario = simulator.scenario
    return ConfigError(
        f"scenario {scenario.name!r}: sla_ms: no number of containers that was tried meets {scenario.sla_ms:g} ms; "
        "raise sla_ms, max_replicas or hosts"
    )
