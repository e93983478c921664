"""Every recipe ships with its learning curve and the policy that it has left, and that policy is an agent by name."""

from __future__ import annotations

import csv

import pytest

from agents.bundle import load_bundle
from imbres_gym.agent import load_agent_config
from imbres_gym.config import available, config_root
from imbres_gym.training.recipe import OwnTrainer, Recipe, load_recipe

LOADED = {name: load_recipe(name) for name in available("training")}
RECIPES = [name for name, recipe in LOADED.items() if isinstance(recipe, Recipe)]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_ships_with_a_curve_that_rises_and_the_best_policy_of_it(name: str) -> None:
    with (config_root() / "training" / "curves" / f"{name}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rewards = [float(row["evaluation/reward"]) for row in rows]
    best = max(range(len(rewards)), key=rewards.__getitem__)
    assert float(rows[0]["steps"]) == 0.0 and best > 0
    bundle, recipe = load_bundle(name), LOADED[name]
    assert bundle.steps == float(rows[best]["steps"])
    assert bundle.metrics["evaluation/reward"] == pytest.approx(rewards[best], rel=1e-4)
    assert bundle.recipe == {**recipe.model_dump(mode="json"), "scenario": "hotel-reservation/training"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_policy_is_an_agent(name: str) -> None:
    recipe = LOADED[name]
    assert isinstance(recipe, Recipe)
    assert load_agent_config(f"learned-{name}").options[recipe.tier] == {"policy": "learned", "bundle": name}


def test_own_trainers_start_from_what_is_shipped() -> None:
    """A recipe that starts from another agent's bundle names one that exists, of the kind it continues."""
    starts = {
        recipe.options["start"] for recipe in LOADED.values() if isinstance(recipe, OwnTrainer) and recipe.options
    }
    assert starts
    assert {load_bundle(start).kind for start in starts} == {"firm"}
