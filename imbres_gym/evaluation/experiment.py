"""An experiment: fixed scenarios, agents and seeds in one file of `configs/experiments/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, model_validator

from imbres_gym.agent import AgentConfig, load_agent_config
from imbres_gym.artifacts import scenario_label
from imbres_gym.config import ConfigError, StrictModel, key_error, load_model, nearest
from imbres_gym.evaluation.task import FIRST_SEED, MOST_SEEDS, EpisodeTask, longest_warmup
from imbres_gym.evaluation.tuning import TUNING_SEEDS, Knob
from imbres_gym.scenario import Duration, load_scenario

Loaded = TypeVar("Loaded")


class KnobConfig(StrictModel):
    """An option of an agent's scaling tier that is searched."""

    option: str
    values: tuple[float, ...] = Field(min_length=1)
    """Those that need fewest containers first."""


class Tuning(StrictModel):
    """The search that some agents get before they are evaluated; see `imbres_gym.evaluation.tuning`."""

    knobs: dict[str, KnobConfig]
    """Agent -> what is searched for it; empty: nothing is."""
    duration: Duration
    seeds: int = Field(default=len(TUNING_SEEDS), ge=1, le=MOST_SEEDS)


class Quick(StrictModel):
    """What the smoke version runs instead."""

    scenarios: tuple[str, ...] = Field(min_length=1)
    seeds: int = Field(default=1, ge=1, le=MOST_SEEDS)
    duration: Duration
    warmup: Duration
    tuning_values: int = Field(ge=1)
    """Values of each knob that are tried: the first ones."""


class PaperClaims(StrictModel):
    """What the paper says, as shares [0-1]."""

    containers_saved_against: dict[str, float] = Field(default_factory=dict)
    """Agent -> fewer containers of ours than of it, on average."""
    containers_saved_in: dict[str, float] = Field(default_factory=dict)
    """Application -> fewer containers of ours than of all of those agents, on average."""
    violation: dict[str, float] = Field(default_factory=dict)
    """Agent -> probability that the SLA is violated, on average."""


class Experiment(StrictModel):
    """One file of `configs/experiments/`."""

    description: str = ""
    scenarios: tuple[str, ...] = Field(min_length=1)
    agents: tuple[str, ...] = Field(min_length=1)
    ours: str
    """The agent that the others are compared with."""
    seeds: int = Field(ge=1, le=MOST_SEEDS)
    """Evaluation seeds, from 1000 on."""
    duration: Duration
    warmup: Duration
    """Start of every episode that does not count."""
    tuning: Tuning
    quick: Quick
    paper: PaperClaims = PaperClaims()

    @model_validator(mode="after")
    def _agents_are_known(self) -> Experiment:
        for key, names in (("ours", (self.ours,)), ("tuning.knobs", tuple(self.tuning.knobs))):
            for name in names:
                if name not in self.agents:
                    raise key_error(key, f"{name!r} is not among the agents; {nearest(name, self.agents)}")
        return self

    @model_validator(mode="after")
    def _knobs_are_of_scaling_tiers(self) -> Experiment:
        for name in self.tuning.knobs:
            key = f"tuning.knobs.{name}"
            if not isinstance(_loaded(key, load_agent_config, name).options.get("scaling"), dict):
                raise key_error(key, "has no scaling tier (options.scaling) with options to search; leave it out")
        return self

    @model_validator(mode="after")
    def _warmups_leave_something(self) -> Experiment:
        """Also says which scenario there is not."""
        quick, searched = self.quick, self.scenarios if self.tuning.knobs else ()
        for place, key, scenarios, duration, warmup in (
            ("", "duration", self.scenarios, self.duration, self.warmup),
            ("", "tuning.duration", searched, self.tuning.duration, self.warmup),
            ("quick.", "quick.duration", quick.scenarios, quick.duration, quick.warmup),
        ):
            for index, name in enumerate(scenarios):
                scenario = _loaded(f"{place}scenarios.{index}", load_scenario, name, duration=duration)
                if warmup > longest_warmup(scenario):
                    raise key_error(
                        f"{place}warmup",
                        f"{warmup:g} s leave nothing of an episode of {duration:g} s ({key}) in {name}; "
                        "write a shorter one, or a longer episode",
                    )
        return self

    def quickened(self) -> Experiment:
        """The smoke version of this experiment."""
        quick = self.quick
        knobs = {
            agent: knob.model_copy(update={"values": knob.values[: quick.tuning_values]})
            for agent, knob in self.tuning.knobs.items()
        }
        tuning = self.tuning.model_copy(update={"knobs": knobs, "duration": quick.duration, "seeds": quick.seeds})
        return self.model_copy(
            update={
                "scenarios": quick.scenarios,
                "seeds": quick.seeds,
                "duration": quick.duration,
                "warmup": quick.warmup,
                "tuning": tuning,
            }
        )

    def tuning_knobs(self) -> dict[str, Knob]:
        """Agent -> what is searched for it."""
        return {agent: Knob(knob.option, knob.values) for agent, knob in self.tuning.knobs.items()}

    def tasks(self, tuned: dict[tuple[str, str], AgentConfig]) -> list[EpisodeTask]:
        """Every episode of the evaluation.

        Args:
            tuned: (scenario, agent) -> its configuration, for the agents that were searched for.

        Raises:
            ConfigError: an unknown or invalid scenario or agent.
        """
        configs = {agent: load_agent_config(agent) for agent in self.agents}
        return [
            EpisodeTask(
                scenario_label(name), scenario, agent, tuned.get((name, agent), configs[agent]), seed, self.warmup
            )
            for name in self.scenarios
            for scenario in [load_scenario(name, duration=self.duration)]
            for agent in self.agents
            for seed in range(FIRST_SEED, FIRST_SEED + self.seeds)
        ]


def _loaded(key: str, load: Callable[..., Loaded], reference: str, **changes: Any) -> Loaded:
    """What a key of an experiment names; a mistake in it becomes one of the key."""
    try:
        return load(reference, **changes)
    except ConfigError as error:
        raise key_error(key, str(error)) from None


def load_experiment(reference: str | Path) -> Experiment:
    """Read an experiment by name (`configs/experiments/NAME.yaml`) or from any YAML file.

    Raises:
        ConfigError: no such experiment, or it is not valid; says which key, and what would be right.
    """
    return load_model(Experiment, "experiments", reference)
