"""The reward: four named parts, each with stated bounds, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np

from imbres_gym.config import ConfigError, nearest
from imbres_gym.telemetry import ClusterInfo

ALLOWED_SLOW_SHARE = 0.05
"""Share of requests that may be slower than the SLA [0-1]: the SLA is a target of the 95th percentile."""

PARTS = ("resource", "violation", "churn", "latency")
"""The unweighted parts that `envs.account` computes of a step, each <= 0:

- `resource`: minus the CPU quota of all containers (pending ones included), in units of the initial provisioning; in
  [-(max_replicas * sum cores) / (initial_replicas . cores), 0]; mean over the control intervals of the step.
- `violation`: minus the share of requests that were slower than the SLA or failed, beyond the 5 % that a 95th
  percentile allows, rescaled to [-1, 0]; of the worst request class. It is 0 exactly when every class's 95th percentile
  meets the SLA.
- `churn`: minus the connections opened and closed, as a share of those open before plus after; in [-1, 0]; mean over
  the intervals.
- `latency`: minus p / (p + SLA) with p the 95th percentile of all requests of the step; in [-1, 0]; -0.5 at the SLA.
"""


@dataclass(frozen=True)
class RewardWeights:
    """Weights of the parts, all >= 0. The defaults are this project's choice; no paper prescribes them.

    With them, breaking the SLA by 10 % of the requests costs about as much as the whole initial provisioning.
    """

    resource: float = 1.0
    """Weight of the CPU quota that is allocated."""
    violation: float = 10.0
    """Weight of the requests that break the SLA."""
    churn: float = 0.1
    """Weight of the connections that are opened and closed."""
    latency: float = 0.0
    """Weight of the latency itself: 0, as meeting the SLA is what counts, and a faster answer earns nothing. Training
    sets it where requests that break the SLA are too rare to learn from."""

    def __post_init__(self) -> None:
        for name, weight in asdict(self).items():
            if not isinstance(weight, (int, float, np.number)) or not np.isfinite(weight) or weight < 0.0:
                raise ConfigError(f"reward_weights: {name}: {weight!r} must be a finite number >= 0")


def make_weights(weights: RewardWeights | Mapping[str, float] | None) -> RewardWeights:
    """The weights that a constructor argument means; parts that are not named keep their default.

    Raises:
        ConfigError: an unknown part (says the nearest) or a weight that is negative or not finite.
    """
    if isinstance(weights, RewardWeights):
        return weights
    if weights is not None and not isinstance(weights, Mapping):
        raise ConfigError(f"reward_weights: {weights!r} must name the parts, such as {{'violation': 10}}")
    given = dict(weights or {})
    known = [field.name for field in fields(RewardWeights)]
    for name in given:
        if name not in known:
            raise ConfigError(f"reward_weights: unknown part {name!r}; {nearest(name, known)}")
    return RewardWeights(**given)


def weighted_sum(parts: Mapping[str, float], weights: RewardWeights) -> float:
    """The scalar reward: the sum of weight times part."""
    return float(sum(getattr(weights, name) * part for name, part in parts.items()))


def reward_bounds(info: ClusterInfo, weights: RewardWeights) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of every part (unweighted) and, under "reward", of the scalar."""
    most = info.max_replicas * info.cores.sum() / initial_cores(info)
    bounds = {"resource": (-float(most), 0.0), "violation": (-1.0, 0.0), "churn": (-1.0, 0.0), "latency": (-1.0, 0.0)}
    lowest = weighted_sum({name: low for name, (low, _) in bounds.items()}, weights)
    return {**bounds, "reward": (lowest, 0.0)}


def initial_cores(info: ClusterInfo) -> float:
    """CPU quota of all containers at the start of an episode."""
    return float(info.cores @ info.initial_replicas)
