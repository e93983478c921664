"""Every recipe ships with its learning curve and the policy that it has left, and that policy is an agent by name."""

from __future__ import annotations

import csv

import pytest

from agents.bundle import load_bundle
from imbres_gym.agent import load_agent_config
from imbres_gym.config import available, config_root
from imbres_gym.training.recipe import load_recipe

RECIPES = available("training")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_ships_with_a_curve_that_rises_and_the_best_policy_of_it(name: str) -> None:
    with (config_root() / "training" / "curves" / f"{name}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rewards = [float(row["evaluation/reward"]) for row in rows]
    best = max(range(len(rewards)), key=rewards.__getitem__)
    assert float(rows[0]["steps"]) == 0.0 and best > 0
    bundle, recipe = load_bundle(name), load_recipe(name)
    assert bundle.steps == float(rows[best]["steps"])
    assert bundle.metrics["evaluation/reward"] == pytest.approx(rewards[best], rel=1e-4)
    assert bundle.recipe == {**recipe.model_dump(mode="json"), "scenario": "hotel-reservation/training"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_policy_is_an_agent(name: str) -> None:
    options = load_agent_config(f"learned-{name}").options
    assert options[load_recipe(name).tier] == {"policy": "learned", "bundle": name}
