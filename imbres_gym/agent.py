"""An agent as the evaluation sees it, and how a YAML file of `configs/agents/` becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from imbres_gym.config import ConfigError, StrictModel, load_model
from imbres_gym.observation import Observation
from imbres_gym.policy import load_object
from imbres_gym.telemetry import ClusterInfo


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
    options: dict[str, Any] = Field(default_factory=dict)


def load_agent_config(reference: str | Path) -> AgentConfig:
    """Read an agent by name (`configs/agents/NAME.yaml`) or from any YAML file.

    Raises:
        ConfigError: no such agent, or it is not valid; says which key, and what would be right.
    """
    return load_model(AgentConfig, "agents", reference)


def make_agent(config: AgentConfig, info: ClusterInfo, seed: int) -> Agent:
    """Build the agent for one cluster.

    Raises:
        ConfigError: its class cannot be imported, or does not take these options.
    """
    factory = load_object(config.agent, f"agent {config.name!r}: agent")
    try:
        agent: Agent = factory(info, seed=seed, **config.options)
    except TypeError as error:
        raise ConfigError(f"agent {config.name!r}: options: {error}") from error
    return agent
