"""A cluster and recipes so small that a whole training takes a moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from imbres_gym.application import Application, Call, ContainerSize, Microservice, Operation, RequestClass
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.interference import ConstantInterference, Level
from imbres_gym.sim.workload import ConstantWorkload
from imbres_gym.training.recipe import Recipe
from imbres_gym.training.state import Progress, checkpoints, load_checkpoint
from imbres_gym.training.trainer import TrainingRun, Watcher, prepare, train

ALGORITHMS = ("PPO", "SAC", "DDPG")
OPTIONS: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 5, "batch_size": 5, "n_epochs": 2},
    "SAC": {"buffer_size": 64, "learning_starts": 4, "batch_size": 8},
    "DDPG": {"buffer_size": 64, "learning_starts": 4, "batch_size": 8},
}


class Fragile(gym.Env[Any, Any]):
    """Refuses an action above one half; one below minus one half takes its whole process down."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        if action[0] > 0.5:
            raise ArithmeticError("too much")
        if action[0] < -0.5:
            os._exit(3)
        return np.zeros(1, np.float32), 1.0, False, False, {}


def small_scenario(**changes: Any) -> Scenario:
    """Two microservices on two hosts, 40 requests/s."""
    microservice = Microservice(operations={"get": Operation(cpu_ms=2.0)})
    application = Application(
        name="small",
        container=ContainerSize(cores=0.1, memory_mb=100.0),
        hop_ms=0.2,
        microservices={"front": microservice, "back": microservice},
        request_classes={
            "read": RequestClass(share=1.0, tree=Call(call="front/get", stages=[[Call(call="back/get")]]))
        },
    )
    settings: dict[str, Any] = {
        "name": "small",
        "application": application,
        "hosts": Hosts(count=2, cores=4.0, memory_mb=8000.0),
        "workload": ConstantWorkload(rps=40.0),
        "interference": ConstantInterference(levels=[Level(cpu=0.1), Level(cpu=0.6)]),
        "sla_ms": 50.0,
        "initial_utilisation": 0.4,
        "max_replicas": 20,
    }
    return Scenario.model_validate({**settings, **changes})


def small_recipe(algorithm: str, **changes: Any) -> Recipe:
    """Load shifting, five decisions an episode, ten steps a segment."""
    settings: dict[str, Any] = {
        "name": "small",
        "environment": "imbres_gym/LoadShifting-v0",
        "algorithm": algorithm,
        "observation": ["own_latency_ms", "interference", "phase"],
        "duration": 30.0,
        "environments": 2,
        "segment_steps": 10,
        "reward_weights": {"latency": 10.0},
        "layers": [8],
        "noise": 0.1,
        "hyperparameters": OPTIONS[algorithm],
        "evaluation_episodes": 1,
    }
    return Recipe.model_validate({**settings, **changes})


def small_run(folder: Path, algorithm: str = "PPO", **changes: Any) -> TrainingRun:
    """A run of these, not started."""
    return TrainingRun(small_recipe(algorithm, **changes), small_scenario(), 3000, folder)


def run_until(
    run: TrainingRun, steps: int, resume: bool = False, workers: int = 1, watcher: Watcher | None = None
) -> Progress:
    """Start or resume a run."""
    start, _ = prepare(run, resume)
    return train(run, start, steps, workers, watcher or Watcher())


def outcome(folder: Path) -> dict[str, Any]:
    """What two runs must agree in: curve and bundle byte for byte, and every number of every checkpoint."""
    files: dict[str, Any] = {name: (folder / name).read_bytes() for name in ("curve.csv", "bundle.zip")}
    return files | {path.name: _plain(vars(load_checkpoint(path))) for path in checkpoints(folder)}


def _plain(value: Any) -> Any:
    """Nested content with tensors as their bytes, so that == compares all of it, bit for bit."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.numpy().tobytes() if hasattr(value, "numpy") else value
