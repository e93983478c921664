"""FIRM's training as `imbres-gym train` calls it; see `imbres_gym.training.recipe.Trainer`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agents.bundle import load_bundle
from imbres_gym.scenario import Scenario


def train(
    scenario: Scenario,
    folder: Path,
    *,
    steps: int,
    seed: int,
    say: Callable[[str], None],
    start: str | None = None,
) -> Path:
    """Train FIRM on the scenario's application, in random scenes of it.

    Args:
        scenario: what to train on; of a shipped application only that and the engine count.
        folder: for the bundle, the curve, and what a resumed training needs.
        steps: transitions of the agent, at least; one step of a scene gives one per microservice.
        seed: of the run.
        say: gets a line per episode.
        start: bundle of FIRM on another application whose networks are trained on (FIRM's transfer learning).

    Raises:
        ConfigError: `start` is no bundle of FIRM, or `folder` holds another training.
    """
    from agents.scaling.firm.recipe import train_firm
    from agents.scaling.firm.training import CurvePoint

    def show(point: CurvePoint) -> None:
        say(f"episode {point.episode}: {point.transitions} transitions, reward {point.training_reward:.3f}")
        if point.evaluation is not None:
            score = point.evaluation
            say(
                f"  without noise, on unseen seeds: reward {score.reward:.3f}, {score.containers:.1f} containers, "
                f"{score.violations:.0%} of steps above the SLA"
            )

    before = None if start is None else load_bundle(start)
    train_firm(scenario, folder, transitions=steps, seed=seed, start=before, on_point=show)
    return folder / f"firm-{scenario.application.name}.zip"
