"""What a learned policy sees and does: observations as one vector, and vectors in [-1, 1] as decisions.

Training environments and trained agents share this module, so that a policy meets at run time what it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

RATE_SCALE = 1e6
"""Rate or count that becomes 1 in a flat observation; smaller ones are on a logarithmic scale up to it."""

LATENCIES = ("own_latency_ms", "own_p95_ms", "microservice_p95_ms", "e2e_ms", "window_p95_ms")
RATES = ("load_rps", "samples", "requests", "failed", "workload_rps", "connections")
SHARES = ("cpu_utilisation", "interference", "proportions", "pair_share")
REPLICAS = ("ready", "pending", "wanted")
FLAT_KEYS = (*LATENCIES, *RATES, *SHARES, *REPLICAS, "age_s", "phase")
"""Everything that a flat observation can hold, in its order; `phase` is the passed share of the scaling interval."""

MIDDLE_TARGET = 0.5
"""CPU utilisation that an action of 0 aims at: the target utilisation of Imbres (section 6.6)."""


def flatten_observation(
    observation: Observation, info: ClusterInfo, keys: Sequence[str] = FLAT_KEYS
) -> NDArray[np.float32]:
    """An observation as one vector (n,) float32 in [0, 1].

    Key after key, with x a value as `imbres_gym.observation` lists it:

    - latencies: x / (x + SLA);
    - rates, samples, requests and connections: log(1 + x) / log(1 + `RATE_SCALE`), at most 1;
    - utilisations, proportions and shares: x, at most 1;
    - replica counts: x / (x + initial replicas);
    - age of measurements: x / (x + scaling interval);
    - phase: the share of the scaling interval that has passed.

    The container table is left out: its rows change their meaning as containers come and go, and the arrays per
    microservice and host sum it up.

    Args:
        observation: of one environment.
        info: the cluster.
        keys: some of `FLAT_KEYS`; their order is that of the vector.
    """
    return np.concatenate([np.ravel(_scaled(key, observation, info)) for key in keys]).astype(np.float32)


def _scaled(key: str, observation: Observation, info: ClusterInfo) -> NDArray[Any]:
    if key == "phase":
        phase: NDArray[Any] = np.mod(observation["time_s"], info.scaling_interval_s) / info.scaling_interval_s
        return phase
    values = observation[key]
    if key in LATENCIES:
        return _saturate(values, info.sla_ms)
    if key in RATES:
        return np.asarray(np.minimum(np.log1p(values) / np.log1p(RATE_SCALE), 1.0))
    if key in SHARES:
        return np.asarray(np.minimum(values, 1.0))
    if key in REPLICAS:
        return _saturate(values, info.initial_replicas[:, None] if values.ndim == 2 else info.initial_replicas)
    return _saturate(values, info.scaling_interval_s)


def _saturate(values: NDArray[Any], scale: Any) -> NDArray[np.float64]:
    """Map [0, infinity) to [0, 1): x / (x + scale)."""
    real = values.astype(np.float64)
    return np.asarray(real / (real + scale))


def proportions_of(values: NDArray[np.floating], observation: Observation) -> NDArray[np.float32]:
    """Load proportions from weights relative to balanced load.

    The proportion of host j is `S_j * (1 + a_j)`, normalised per microservice, with S_j its ready containers there:
    0 everywhere is balanced load, -1 takes all load from a host, and 1 doubles its weight. All -1 is balanced.

    Args:
        values: (M * H,) the a_j [-1, 1].
        observation: the last one.

    Returns:
        (M, H) float32 [0-1]; a row sums to 1, or is zero without ready containers.
    """
    ready = observation["ready"].astype(np.float64)
    weights = ready * (1.0 + values.reshape(ready.shape))
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0.0, weights, ready)
    sums = weights.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0.0), np.float32)


def replicas_at_targets(values: NDArray[np.floating], observation: Observation, info: ClusterInfo) -> NDArray[np.int64]:
    """Replica counts that bring the CPU use just measured to target utilisations.

    The target of a microservice is `MIDDLE_TARGET * 2 ** a`: 0 is that of a plain autoscaler, -1 halves and 1 doubles
    it. The counts follow the load by themselves; what is left to learn is how much CPU each microservice can use before
    latency suffers.

    Args:
        values: (M,) the a [-1, 1].
        observation: the last one.
        info: the cluster.

    Returns:
        (M,) int64, clipped to `min_replicas..max_replicas`; the wanted ones where no container is ready.
    """
    busy = (observation["cpu_utilisation"].astype(np.float64) * observation["ready"]).sum(axis=1)
    counts = np.ceil(busy / (MIDDLE_TARGET * 2.0 ** values.astype(np.float64)) - 1e-9)
    counts = np.where(observation["ready"].sum(axis=1) > 0, counts, observation["wanted"])
    return np.clip(counts, info.min_replicas, info.max_replicas).astype(np.int64)
