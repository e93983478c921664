"""A recipe: what is trained, how, and on what it is judged; one YAML file of `configs/training/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, model_validator

from imbres_gym.config import StrictModel, find_config, key_error, nearest, read_yaml, validate
from imbres_gym.flat import FLAT_KEYS
from imbres_gym.scenario import Duration, Scenario

TIERS = {"imbres_gym/LoadShifting-v0": "load", "imbres_gym/Scaling-v0": "scaling"}
"""Environment id -> tier that can be learned in it."""

COLLECTED = {"PPO": "n_steps", "SAC": "train_freq", "DDPG": "train_freq"}
"""Algorithm -> hyperparameter that says how many steps of every environment are collected between two updates."""


class Recipe(StrictModel):
    """One file of `configs/training/`."""

    name: str
    description: str = ""
    environment: Literal["imbres_gym/LoadShifting-v0", "imbres_gym/Scaling-v0"]
    algorithm: Literal["PPO", "SAC", "DDPG"]
    observation: list[str] = Field(min_length=1)
    """Keys of the flat observation, see `imbres_gym.flat.FLAT_KEYS`; few keys learn faster."""
    duration: Duration
    """Length of a training episode; those of early evaluation are as long."""
    environments: int = Field(ge=1)
    """Environments that are stepped together. Part of the recipe, as the result depends on it; the number of processes
    that they are spread over is not."""
    segment_steps: int = Field(ge=1)
    """Steps (over all environments) between two checkpoints."""
    reward_weights: dict[str, float] = Field(default_factory=dict)
    layers: list[Annotated[int, Field(ge=1)]] = Field(default=[64, 64], min_length=1)
    """Units of the hidden layers, of actor and critic alike."""
    activation: Literal["tanh", "relu"] = "tanh"
    noise: float | None = Field(default=None, gt=0.0)
    """Standard deviation of the Gaussian noise on the actions: constant for DDPG, at the start for PPO and SAC. If
    absent, DDPG has none, and the others start with that of stable-baselines3 (1)."""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """Keywords of the algorithm's class in stable-baselines3."""
    evaluation_episodes: int = Field(default=2, ge=1)
    """Episodes of the early evaluation after every segment, on fixed seeds that no training sees."""

    @property
    def tier(self) -> str:
        """The tier that is learned: load or scaling."""
        return TIERS[self.environment]

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        for index, key in enumerate(self.observation):
            if key not in FLAT_KEYS:
                raise key_error(f"observation.{index}", f"unknown key {key!r}; {nearest(key, FLAT_KEYS)}")
        whole = self.environments * self._collected()
        if self.segment_steps % whole:
            raise key_error(
                "segment_steps",
                f"{self.segment_steps} is no multiple of {whole} (environments x "
                f"hyperparameters.{COLLECTED[self.algorithm]}), the steps between two updates",
            )
        return self

    def _collected(self) -> int:
        """Steps of every environment between two updates.

        Those of SAC and DDPG are 1 where the recipe says nothing, as in stable-baselines3. PPO's default there (2048)
        is longer than any segment here, so that a recipe must say them.
        """
        key = COLLECTED[self.algorithm]
        if key not in self.hyperparameters and self.algorithm != "PPO":
            return 1
        steps = self.hyperparameters.get(key)
        if type(steps) is not int or steps < 1:
            found = f"got {steps!r}" if key in self.hyperparameters else "missing"
            raise key_error(
                f"hyperparameters.{key}",
                f"must be a whole number of at least 1, the steps of every environment between two updates ({found})",
            )
        return steps


class OwnTrainer(StrictModel):
    """A recipe for an agent that brings its own training, such as FIRM."""

    name: str
    description: str = ""
    trainer: str
    """Import path `module:function` of a `Trainer`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further keywords of the function."""


class Trainer(Protocol):
    """Trains an agent of its own kind; interruptible, and resumed by another call with the same arguments."""

    def __call__(
        self, scenario: Scenario, folder: Path, *, steps: int, seed: int, say: Callable[[str], None], **options: Any
    ) -> Path:
        """Train until `steps` are done, or go on where an earlier call was stopped.

        Args:
            scenario: gives the application, the hosts and the SLA.
            folder: for everything that is written.
            steps: of training, as the agent counts them.
            seed: of the run.
            say: tells the user one line about the progress.
            options: of the recipe.

        Returns:
            The bundle.

        Raises:
            ConfigError: an option is wrong, or `folder` holds another training.
        """
        ...


def load_recipe(reference: str | Path) -> Recipe | OwnTrainer:
    """Read a recipe by name (`configs/training/NAME.yaml`) or from any YAML file.

    Raises:
        ConfigError: no such recipe, or it is not valid; says which key, and what would be right.
    """
    path = find_config("training", reference)
    data = read_yaml(path)
    return validate(OwnTrainer, data, path) if "trainer" in data else validate(Recipe, data, path)
