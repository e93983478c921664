"""The oracle: plays back the allocation that a search of the simulator found; what all agents are measured against."""

from __future__ import annotations

from agents.controller import Controller
from imbres_gym.artifacts import find_artifact, scenario_label
from imbres_gym.config import ConfigError
from imbres_gym.oracle.record import OracleRecord, load_record
from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import ClusterInfo


class Oracle(Controller):
    """Holds replica counts, load shares and connections that `imbres-gym oracle` found for exactly this scenario.

    It knows the simulator, so it is no rival but the limit: the fewest containers known to meet the SLA with the
    default scheduler's placement. A search is a heuristic, so an agent can in principle need fewer.

    Args:
        info: the cluster.
        seed: as in `Controller`.
        scenario: that is simulated.
        oracle: name in `configs/oracles/` or path of a record.

    Raises:
        ConfigError: there is no record, or it is not of this scenario and this version; names the command to run.
    """

    def __init__(self, info: ClusterInfo, *, seed: int, scenario: Scenario, oracle: str) -> None:
        record = _record_for(scenario, oracle)
        weights = [record.weights[name] for name in info.microservices]
        super().__init__(
            info,
            seed=seed,
            load={"policy": "agents.load.fixed_weights:FixedWeights", "weights": weights},
            connections={"policy": record.connections},
            scaling={"policy": "agents.scaling.static:StaticScaling", "replicas": record.replicas},
        )


def _record_for(scenario: Scenario, reference: str) -> OracleRecord:
    hint = f"search it with: imbres-gym oracle {scenario.name}"
    try:
        path = find_artifact("oracle", reference)
    except ConfigError as error:
        raise ConfigError(f"{error}; {hint}") from None
    record = load_record(path)
    reason = record.outdated(scenario)
    if reason:
        other = f" (it is of {record.scenario!r})" if record.scenario != scenario_label(scenario.name) else ""
        raise ConfigError(f"{path}: {reason}{other}; {hint}")
    return record
