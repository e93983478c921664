"""An agent as the evaluation sees it, and how a YAML file of `configs/agents/` becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from imbres_gym.artifacts import fill_names
from imbres_gym.config import ConfigError, StrictModel, load_model
from imbres_gym.observation import Observation
from imbres_gym.policy import load_object
from imbres_gym.telemetry import ClusterInfo

if TYPE_CHECKING:
    from imbres_gym.scenario import Scenario


class Agent(Protocol):
    """Anything with stable-baselines3's `predict`: a hand-written controller and a trained model alike."""

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Action and next state for one observation or a batch of them.

        Args:
            observation: of `imbres_gym.observation`; with a leading batch axis on every array for a batch.
            state: state that the last call returned.
            episode_start: per environment whether an episode starts; None means that it goes on.
            deterministic: kept for compatibility with learned agents.
        """
        ...


class AgentConfig(StrictModel):
    """One file of `configs/agents/`."""

    name: str
    description: str = ""
    agent: str = "agents.controller:Controller"
    """Import path of a class that is called as `Class(info, seed=seed, **options)`."""
    scaling_interval_s: float | None = None
    """Interval at which this agent's replica counts take effect; the scenario's if absent."""
    trace_sampling: float | None = Field(default=None, ge=0.0, le=1.0)
    """Share of requests that are traced while this agent runs; the scenario's if absent."""
    sees_scenario: bool = False
    """The class is called with `scenario=` as well: for oracles, and for agents with a model of the application. Others
    see what can be measured."""
    options: dict[str, Any] = Field(default_factory=dict)


def load_agent_config(reference: str | Path) -> AgentConfig:
    """Read an agent by name (`configs/agents/NAME.yaml`) or from any YAML file.

    Raises:
        ConfigError: no such agent, or it is not valid; says which key, and what would be right.
    """
    return load_model(AgentConfig, "agents", reference)


def make_agent(config: AgentConfig, info: ClusterInfo, seed: int, scenario: Scenario | None = None) -> Agent:
    """Build the agent for one cluster.

    Args:
        config: its configuration.
        info: the cluster.
        seed: for what is random in the agent.
        scenario: that the cluster runs; fills `{application}` and `{scenario}` in the names of files
            (`imbres_gym.artifacts`), and is passed on to an agent that `sees_scenario`.

    Raises:
        ConfigError: its class cannot be imported, does not take these options, or needs a scenario and there is none.
    """
    factory = load_object(config.agent, f"agent {config.name!r}: agent")
    options = config.options if scenario is None else fill_names(config.options, scenario)
    if config.sees_scenario:
        if scenario is None:
            raise ConfigError(f"agent {config.name!r}: sees_scenario: this agent runs in a simulated scenario only")
        options = {**options, "scenario": scenario}
    try:
        agent: Agent = factory(info, seed=seed, **options)
    except TypeError as error:
        raise ConfigError(f"agent {config.name!r}: options: {error}") from error
    return agent
