"""From the state of a learner to the policy that is shipped: numpy networks, bundles, early evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from imbres_gym.policy import load_object
from imbres_gym.scenario import Scenario
from imbres_gym.training.learner import actor_arrays, input_statistics
from imbres_gym.training.recipe import Recipe
from imbres_gym.training.seeds import EARLY_EVALUATION_SEED


def make_network(recipe: Recipe, state: Mapping[str, Any]) -> Any:
    """The deterministic policy as an `agents.network.Network`: flat observation in, action before clipping out."""
    mean, variance = input_statistics(state)
    normalisation = load_object("agents.network:Normalisation")(mean, variance)
    return load_object("agents.network:Network")(**actor_arrays(recipe, state), normalisation=normalisation)


def write_bundle(
    path: Path, recipe: Recipe, scenario: Scenario, network: Any, seed: int, steps: int, row: Mapping[str, float]
) -> None:
    """Write a policy as a bundle; `row` is its early evaluation."""
    application = scenario.application
    bundle = load_object("agents.bundle:Bundle")(
        kind=recipe.tier,
        application=application.name,
        microservices=application.microservice_names,
        hosts=scenario.hosts.count,
        classes=application.class_names,
        recipe={**recipe.model_dump(mode="json"), "scenario": scenario.name},
        seeds={"training": seed, "early_evaluation": EARLY_EVALUATION_SEED},
        steps=steps,
        metrics={name: value for name, value in row.items() if name.startswith("evaluation/")},
        networks={"actor": network},
    )
    load_object("agents.bundle:save_bundle")(bundle, path)


def evaluate(make: Callable[[], gym.Env[Any, Any]], network: Any, episodes: int) -> dict[str, float]:
    """Play whole episodes with the policy as it would be shipped, on the seeds of early evaluation.

    Returns:
        Means over the steps of all episodes: `reward` (weighted as in the recipe), `reward/PART` and `metrics/NAME`.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    steps = 0
    env = make()
    for episode in range(episodes):
        observation, _ = env.reset(seed=EARLY_EVALUATION_SEED + episode)
        over = False
        while not over:
            action = np.clip(network.forward(observation), -1.0, 1.0)
            observation, reward, terminated, truncated, info = env.step(action)
            over = terminated or truncated
            steps += 1
            sums["reward"] += float(reward)
            for group, values in (("reward", info["reward_parts"]), ("metrics", info["metrics"])):
                for name, value in values.items():
                    sums[f"{group}/{name}"] += value
    env.close()
    return {name: value / steps for name, value in sums.items()}
