"""Imbres' load shifting: Algorithm 1 of the paper (section 4.1.1, ASPLOS'25), for all microservices at once.

Symbols: D load proportion, S containers, l own latency, eta learning rate. A cell is a microservice i and a host j that
has containers of it; arrays are over the n cells of all microservices, since on thousands of hosts most have none.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.plan import balanced_proportions, carry_over
from imbres_gym.telemetry import ClusterInfo

Floats = NDArray[np.float64]

MIN_FACTOR, MAX_FACTOR = 0.1, 2.0
"""Bounds of one step's factor on a proportion. The paper has none, but line 9 turns negative for a host slower than
(1 + 1 / eta) times the mean, which is possible with more than 1 + 1 / eta hosts. Estimate."""


class ImbresLoad:
    """Shifts load from slow to fast hosts until the containers of a microservice are equally fast.

    Args:
        eta: learning rate (0, inf); the paper's 0.2. A step overshoots for good where latency rises more than 2 / eta
            times as fast as load (relative changes; near saturation). The paper's constant is kept, without damping.
        statistic: what is equalised: the mean own latency of a control interval, or its p95. The paper does not say
            which; the mean is the default because the p95 of five seconds is noisy.
        floor: least load per container, as a share of the balanced one (0-1). The paper has none, but a host without
            load has no latency either, so nothing would bring its load back. Estimate.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(self, *, eta: float = 0.2, statistic: Literal["mean", "p95"] = "mean", floor: float = 0.01) -> None:
        if eta <= 0.0:
            raise ConfigError(f"eta: {eta} must be > 0")
        if statistic not in ("mean", "p95"):
            raise ConfigError(f"statistic: {statistic!r} must be 'mean' or 'p95'")
        if not 0.0 < floor < 1.0:
            raise ConfigError(f"floor: {floor} must be between 0 and 1")
        self._eta = eta
        self._latency = {"mean": "own_latency_ms", "p95": "own_p95_ms"}[statistic]
        self._floor = floor
        self._last: tuple[Floats, NDArray[np.int64]] | None = None  # D and S

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Forget the proportions; the next proposal starts from balanced load."""
        self._last = None

    def propose(self, observation: Observation) -> Floats:
        """One iteration of Algorithm 1; called every control interval (the paper's 5 s).

        Returns:
            (M, H) float64 [0-1]: positive exactly where there are ready containers, rows sum to 1;
            a row without ready containers is zero.
        """
        ready = observation["ready"]
        # Line 2: at first the load is balanced over the containers, D_j = S_j / sum S. The paper does not say what
        # happens to D after scaling. Starting over from balanced load would give up what was learnt at every scaling
        # interval, so the weight per container stays (as in the cluster itself).
        D = balanced_proportions(ready) if self._last is None else carry_over(*self._last, ready)
        self._iterate(D, observation)
        self._last = D, ready
        return D.copy()

    def _iterate(self, D: Floats, observation: Observation) -> None:
        """Lines 5-10: one iteration from the proportions D (M, H), which are overwritten."""
        ready = observation["ready"]
        cells = np.flatnonzero(ready > 0)
        # Line 5: l_j is the mean over the host's containers; what is measured per host is the mean over its spans. The
        # two are the same where containers share the host's load equally, as over full connections; under random ones
        # the mean over spans counts a container by its calls. Own latency (without downstream calls), as hosts are to
        # be compared.
        l = observation[self._latency].ravel()[cells].astype(np.float64)  # noqa: E741
        # A host without a fresh sample has no gradient: it keeps its weight and takes no part in the mean.
        fresh = (observation["samples"].ravel()[cells] > 0) & np.isfinite(l)
        S = ready.ravel()[cells].astype(np.float64)
        D.ravel()[cells] = shift_load(D.ravel()[cells], S, l, fresh, cells // ready.shape[1], self._eta, self._floor)


def shift_load(
    D: Floats,
    S: Floats,
    l: Floats,  # noqa: E741
    fresh: NDArray[np.bool_],
    i: NDArray[np.int64],
    eta: float,
    floor: float,
) -> Floats:
    """Lines 6-10 of Algorithm 1.

    Args:
        D: (n,) load proportions [0-1].
        S: (n,) ready containers, > 0.
        l: (n,) own latency [ms].
        fresh: (n,) whether l is a new measurement; where not, the weight is kept.
        i: (n,) microservice of each cell.
        eta: learning rate.
        floor: least load per container as a share of the balanced one.

    Returns:
        (n,) the next load proportions.
    """
    # Line 6: the mean over hosts, each host alike (the text also says "of all containers"; the listing is followed).
    count = _sum(fresh, i)
    total = _sum(np.where(fresh, l, 0.0), i)
    l_mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    usable = fresh & (l_mean > 0.0)
    # Line 7: direction, -1 for slower than the mean. Line 8: distance from the mean, as a share of it.
    F = np.where(l > l_mean, -1.0, 1.0)
    l_hat = np.divide(np.abs(l_mean - l), l_mean, out=np.zeros_like(l), where=usable)
    # Line 9, with the factor kept positive.
    D = D * np.clip(1.0 + eta * F * l_hat, MIN_FACTOR, MAX_FACTOR)
    # Line 10, with a floor; the second division only takes back what the floor has added.
    D = np.maximum(_normalise(D, i), floor * _normalise(S, i))
    return _normalise(D, i)


def _sum(values: NDArray[np.generic], i: NDArray[np.int64]) -> Floats:
    """(n,) sum over the hosts of each cell's microservice."""
    return np.bincount(i, values)[i].astype(np.float64)


def _normalise(values: Floats, i: NDArray[np.int64]) -> Floats:
    """Values divided by the sum of their microservice, where it is not zero."""
    total = _sum(values, i)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0.0)
