"""One search from the scenario to its record."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

import numpy as np

from imbres_gym import __version__
from imbres_gym.artifacts import scenario_label
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.statistics import mean_interval
from imbres_gym.oracle.record import OracleRecord, oracle_hash
from imbres_gym.oracle.search import CHECK, search
from imbres_gym.oracle.simulate import Simulator
from imbres_gym.oracle.truth import lower_bound, require_constant
from imbres_gym.scenario import Scenario


@dataclass(frozen=True)
class SearchFailure:
    """A search that found nothing.

    Attributes:
        scenario: its name.
        message: one line.
        details: the traceback; empty if the scenario is to blame.
    """

    scenario: str
    message: str
    details: str


def attempt(scenario: Scenario, start: OracleRecord | None = None) -> OracleRecord | SearchFailure:
    """Search one scenario; whatever goes wrong becomes a value, so that other searches go on."""
    try:
        return find_oracle(scenario, start)
    except ConfigError as error:
        return SearchFailure(scenario.name, str(error), "")
    except Exception as error:
        return SearchFailure(scenario.name, f"{type(error).__name__}: {error}", traceback.format_exc())


def find_oracle(scenario: Scenario, start: OracleRecord | None = None) -> OracleRecord:
    """Search the least containers of a scenario, from the allocation of `start` as in `search`.

    Raises:
        ConfigError: it changes with time, or nothing meets its SLA.
    """
    require_constant(scenario)
    simulator = Simulator(scenario)
    names = scenario.application.microservice_names
    allocation = search(simulator, None if start is None else start.allocation(names))
    p95_ms = simulator.window_p95_ms(allocation, CHECK)
    estimate = mean_interval(p95_ms.tolist())
    return OracleRecord(
        scenario=scenario_label(scenario.name),
        scenario_hash=oracle_hash(scenario),
        version=__version__,
        containers=allocation.containers,
        lower_bound=int(lower_bound(scenario).sum()),
        replicas=dict(zip(names, allocation.replicas.tolist(), strict=True)),
        weights=dict(zip(names, allocation.weights.tolist(), strict=True)),
        connections=allocation.connections,
        p95_ms=round(estimate.mean, 2),
        p95_interval_ms=(round(estimate.low, 2), round(estimate.high, 2)),
        violated=float(np.mean(p95_ms > scenario.sla_ms)),
        windows=len(p95_ms),
        simulated_s=simulator.simulated_s,
    )
