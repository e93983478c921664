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
    """Algorithm 1, but only so much load for a host that its containers stay below a CPU limit.

    Large containers answer as quickly at half their quota as at a tenth, so that latencies never become equal, and
    Algorithm 1 shifts load to the calm hosts until their containers are overloaded (`docs/trace-driven.md`).

    Args:
        cpu_limit: CPU use over quota (0, 1] of a container; 0.5 is the load that the paper's performance table counts
            as the largest (section 4.1.2). Where a microservice uses more than that in the mean, not all hosts can stay
            below: its mean is the limit then.
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
        ready = observation["ready"]
        cells = np.flatnonzero(ready > 0)
        i = cells // ready.shape[1]
        before = D.ravel()[cells]
        super()._iterate(D, observation)
        S = ready.ravel()[cells].astype(np.float64)
        use = observation["cpu_utilisation"].ravel()[cells].astype(np.float64)
        limit = np.maximum(self._cpu_limit, (np.bincount(i, S * use) / np.maximum(np.bincount(i, S), 1.0))[i])
        # CPU use is taken to grow as load does.
        largest = before * np.divide(limit, use, out=np.full_like(use, np.inf), where=use > 0.0)
        largest /= np.minimum(np.bincount(i, largest), 1.0)[i]
        D.ravel()[cells] = cut(D.ravel()[cells], largest, i)


def cut(wanted: Floats, largest: Floats, i: NDArray[np.int64]) -> Floats:
    """Shares that are nowhere above the largest allowed; what is cut goes to the other hosts, in proportion.

    Args:
        wanted: (n,) load proportions, > 0; those of a microservice sum to 1.
        largest: (n,) largest allowed ones, > 0; those of a microservice sum to 1 or more.
        i: (n,) microservice of each.

    Returns:
        (n,) load proportions; those of a microservice sum to 1.
    """
    full = wanted > largest
    while True:
        taken = np.bincount(i, np.where(full, largest, 0.0))
        others = np.bincount(i, np.where(full, 0.0, wanted))
        factor = np.divide(1.0 - taken, others, out=np.zeros(len(others)), where=others > 0.0)
        shares = np.where(full, largest, wanted * factor[i])
        above = ~full & (shares > largest)
        if not above.any():
            return shares
        full |= above
