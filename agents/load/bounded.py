"""Imbres' load shifting with a bound on the load of a container: not in the paper, which has none."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.load.imbres import ImbresLoad
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation

Floats = NDArray[np.float64]


class BoundedImbresLoad(ImbresLoad):
    """Algorithm 1, but containers that use much of their quota get no more load.

    Large containers answer as quickly at half their quota as at a tenth, so that latencies never become equal, and
    Algorithm 1 shifts load to the calm hosts until their containers are overloaded (`docs/trace-driven.md`).

    Args:
        cpu_limit: CPU use over quota (0, 1] from which on a host's share does not grow; 0.5 is the load that the
            paper's performance table counts as the largest of a container (section 4.1.2).
        eta: as of `ImbresLoad`.
        statistic: likewise.
        floor: likewise.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(
        self,
        *,
        cpu_limit: float = 0.5,
        eta: float = 0.2,
        statistic: Literal["mean", "p95"] = "mean",
        floor: float = 0.01,
    ) -> None:
        super().__init__(eta=eta, statistic=statistic, floor=floor)
        if not 0.0 < cpu_limit <= 1.0:
            raise ConfigError(f"cpu_limit: {cpu_limit} must be in (0, 1]")
        self._cpu_limit = cpu_limit

    def _iterate(self, D: Floats, observation: Observation) -> None:
        before = D.copy()
        super()._iterate(D, observation)
        D[:] = hold(before, D, observation["cpu_utilisation"] >= self._cpu_limit)


def hold(before: Floats, after: Floats, full: NDArray[np.bool_]) -> Floats:
    """Keep shares from growing where containers are full; the other hosts of a microservice take what is left over.

    A row in which there is no other host with containers stays as it was `before`.

    Args:
        before: (M, H) load proportions [0-1].
        after: (M, H) those that are wanted.
        full: (M, H) where shares may not grow.

    Returns:
        (M, H) load proportions, with the sums of `after`.
    """
    kept = np.where(full, np.minimum(before, after), 0.0)
    others = np.where(full, 0.0, after)
    rest, free = after.sum(axis=1) - kept.sum(axis=1), others.sum(axis=1)
    taken = others * np.divide(rest, free, out=np.zeros_like(rest), where=free > 0.0)[:, None]
    return np.where((free > 0.0)[:, None], kept + taken, before)
