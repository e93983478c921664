"""Seeds of training: drawn so that no training meets an episode that anything is evaluated on.

| seeds | use |
|---|---|
| 1000-1999 | final evaluation |
| 2000-2999 | profiling and tuning of hand-written agents |
| 3000-3999 | training runs (`--seed`) |
| 4000-4999 | early evaluation during training |
| 10 000 and more | episodes of training, drawn from the seed of the run |
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

EARLY_EVALUATION_SEED = 4000
FIRST_EPISODE_SEED = 10_000
_END = 2**31 - 1


def segment_seed(seed: int, segment: int) -> int:
    """Seed of everything random in one segment of a training run; in [`FIRST_EPISODE_SEED`, 2^31 - 2^16)."""
    word = int(np.random.SeedSequence([seed, segment]).generate_state(1)[0])
    return FIRST_EPISODE_SEED + word % (_END - 2**16 - FIRST_EPISODE_SEED)


class TrainingEpisodes(gym.Wrapper[Any, Any, Any, Any]):
    """Draws the seed of every episode from the one that the first reset got, always `FIRST_EPISODE_SEED` or more."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._generator = np.random.default_rng(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; `seed` starts a new sequence of episode seeds."""
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        episode_seed = int(self._generator.integers(FIRST_EPISODE_SEED, _END))
        return self.env.reset(seed=episode_seed, options=options)
