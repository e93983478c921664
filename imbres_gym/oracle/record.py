"""What a search found, as the JSON file that the agent `oracle` plays back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from imbres_gym import __version__
from imbres_gym.config import ConfigError, StrictModel, validate
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.evaluation.task import scenario_hash
from imbres_gym.oracle.simulate import Allocation
from imbres_gym.scenario import Scenario

IRRELEVANT = frozenset({"seed", "trace_sampling", "policies"})
"""Keys of a scenario that the allocation does not depend on, beside name, description and duration."""


class OracleRecord(StrictModel):
    """One file of `configs/oracles/`."""

    format: Literal[1] = 1
    scenario: str
    scenario_hash: str
    version: str
    """Of the package whose simulator was searched."""
    containers: int = Field(ge=1)
    """Total: an upper bound of the least that meets the SLA."""
    lower_bound: int = Field(ge=1)
    """Total below which the CPU demand exceeds the quota, see `imbres_gym.oracle.truth.lower_bound`."""
    replicas: dict[str, int]
    weights: dict[str, list[float]]
    """Load per container of each microservice on each host; only ratios matter."""
    connections: str
    """Import path of the connection policy."""
    p95_ms: float = Field(ge=0.0)
    """Mean over the windows of the check of the largest p95 of the request classes [ms]."""
    p95_interval_ms: tuple[float, float]
    """Its 95 % Student t-interval over those windows [ms]."""
    violated: float = Field(ge=0.0, le=1.0)
    """Share of those windows above the SLA."""
    windows: int = Field(ge=1)
    simulated_s: float = Field(ge=0.0)
    """Cost of the search: time that was simulated [s]."""

    def allocation(self, names: Sequence[str]) -> Allocation:
        """The decision, for the microservices in this order."""
        return Allocation(
            np.array([self.replicas[name] for name in names], np.int64),
            np.array([self.weights[name] for name in names], np.float64),
            self.connections,
        )

    def require_shape(self, scenario: Scenario) -> None:
        """Refuse a scenario of other microservices or another number of hosts.

        Raises:
            ConfigError: says what differs.
        """
        names = scenario.application.microservice_names
        if set(names) != self.replicas.keys() or any(len(row) != scenario.hosts.count for row in self.weights.values()):
            raise ConfigError(
                f"oracle: the record of {self.scenario} has other microservices or hosts than {scenario.name}; "
                "give one of the same application and cluster"
            )

    def outdated(self, scenario: Scenario) -> str:
        """Why the record is not for this scenario and this package; empty if it is."""
        if self.scenario_hash != oracle_hash(scenario):
            return "the scenario has changed since the search"
        if self.version != __version__:
            return f"it was searched with version {self.version} of the simulator, this is {__version__}"
        return ""


def oracle_hash(scenario: Scenario) -> str:
    """Hash of what the allocation depends on."""
    return scenario_hash(scenario, IRRELEVANT)


def save_record(record: OracleRecord, path: Path) -> None:
    """Write a record atomically."""
    write_atomically(path, (json.dumps(record.model_dump(mode="json"), indent=1) + "\n").encode())


def load_record(path: Path) -> OracleRecord:
    """Read a record.

    Raises:
        ConfigError: it cannot be read or is no record; says which key is wrong.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}; search again with imbres-gym oracle") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(data).__name__}")
    record = validate(OracleRecord, data, path)
    if record.replicas.keys() != record.weights.keys():
        raise ConfigError(f"{path}: weights: must have the microservices of replicas")
    return record
