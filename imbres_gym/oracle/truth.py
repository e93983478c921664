"""What only the simulator knows: true CPU demands and stretches, and what follows from them for container counts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imbres_gym.config import ConfigError
from imbres_gym.scenario import Scenario
from imbres_gym.sim.interference import ConstantInterference
from imbres_gym.sim.workload import ConstantWorkload

Floats = NDArray[np.float64]


def require_constant(scenario: Scenario) -> None:
    """Refuse a scenario that has no single best allocation.

    Raises:
        ConfigError: its workload or its interference changes with time; says which.
    """
    for part, wanted in (("workload", ConstantWorkload), ("interference", ConstantInterference)):
        kind = getattr(scenario, part).kind
        if not isinstance(getattr(scenario, part), wanted):
            raise ConfigError(
                f"scenario {scenario.name!r}: {part}: the oracle finds one allocation for all of the episode, so it "
                f"needs kind: constant (got {kind!r})"
            )


def host_levels(scenario: Scenario) -> Floats:
    """(H, 4) utilisation of the hosts by best-effort jobs, of a scenario with constant interference [0-1]."""
    return np.asarray(scenario.interference.path(scenario.hosts.count, 1, 1.0, np.random.default_rng(0))[0])


def stretches(scenario: Scenario, utilisation: Floats) -> Floats:
    """(M, H) factor on the CPU demand of each microservice on each host; `docs/event-engine.md`, "Interference".

    Args:
        scenario: has the effects and the sensitivities.
        utilisation: (H, 4) of the hosts by everything on them [0-1].
    """
    effects = scenario.effects
    strength = np.array([effects.stretch_cpu, effects.stretch_memory_bandwidth, 0.0, effects.stretch_llc])
    felt = [
        [service.sensitivity.cpu, service.sensitivity.memory_bandwidth, 0.0, service.sensitivity.llc]
        for service in scenario.application.microservices.values()
    ]
    return np.asarray(1.0 + (np.array(felt) * strength) @ np.minimum(utilisation, 1.0).T)


def counts_at(scenario: Scenario, share: float) -> NDArray[np.int64]:
    """(M,) containers that put each microservice's CPU use at a share of its quota, mean stretch and idle use included.

    Counts are kept inside `min_replicas` to `max_replicas`.

    Args:
        scenario: with a constant workload.
        share: of the quota (0, 1].
    """
    return _counts(scenario, stretches(scenario, host_levels(scenario)).mean(axis=1), share)


def lower_bound(scenario: Scenario) -> NDArray[np.int64]:
    """(M,) containers below which the CPU demand exceeds the quota even if all run on the least stretching host.

    No allocation with fewer containers is stable. Latency, throttling inside a period, wake-up losses and connections
    are left out, so the true minimum is higher.
    """
    return _counts(scenario, stretches(scenario, host_levels(scenario)).min(axis=1), 1.0)


def _counts(scenario: Scenario, stretch: Floats, share: float) -> NDArray[np.int64]:
    application, rate = scenario.application, scenario.workload.rate(0.0)
    demand = application.cpu_ms_per_request()
    counts: list[int] = []
    for index, name in enumerate(application.microservice_names):
        quota, idle = application.cores_of(name), application.microservices[name].idle_cores
        usable = max(quota * share - idle, 1e-3 * quota)
        needed = math.ceil(rate * demand[name] * 1e-3 * stretch[index] / usable - 1e-9)
        counts.append(min(max(needed, scenario.min_replicas), scenario.max_replicas))
    return np.array(counts, np.int64)
