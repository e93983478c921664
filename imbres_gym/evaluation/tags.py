"""Which TensorBoard tag a number gets: the same for hand-written and learned agents, in evaluation and in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.recorder import illegal_kinds

_PERCENTILES = ("p50_ms", "p95_ms", "p99_ms")


def step_scalars(info: Mapping[str, Any]) -> dict[str, float]:
    """Tag -> value of one step of any environment here, from its `info`; what a training callback logs.

    Every tag is one of `scalars`, and means the same there; what needs more than `info` (names, SLA, capacity, decision
    times) is missing.

    - `e2e/p50_ms`, `p95_ms`, `p99_ms`: all requests that ended in the step, failed ones as 10 s;
    - `e2e/window_p95_ms`: the slowest request class of 20 requests or more in the last scaling interval, held
      against the SLA;
    - `e2e/sla_violation`, `request_violation`, `failed`: whether that is above the SLA; shares of requests [0-1];
    - `cluster/NAME`: every other number of `info["metrics"]`, among them `containers`, `connections`,
      `connection_churn`, `load_variance`, `workload_rps`; and `illegal_actions`;
    - `reward/total`; `reward/PART` without its weight.
    """
    tags = {metric_tag(name): float(value) for name, value in info["metrics"].items()}
    tags.update({f"reward/{name}": float(value) for name, value in info["reward_parts"].items()})
    tags["cluster/illegal_actions"] = float(sum(illegal_kinds(info["illegal_actions"]).values()))
    return tags


def scalars(result: EpisodeResult) -> dict[str, NDArray[np.float64]]:
    """Tag -> value per control interval (T,), NaN where there is none.

    The tags of `step_scalars`, and:

    - `e2e/sla_ms`: the target; `e2e/PERCENTILE/CLASS` where there are several request classes;
    - `cluster/capacity_rps`: an estimate, see `imbres_gym.evaluation.recorder.capacity_rps`;
    - `replicas/MICROSERVICE`, ready or starting;
    - `decision/total_ms`, and `decision/TIER_ms` of an agent that says it: a controller of tiers.
    """
    series = result.series
    tags: dict[str, NDArray[Any]] = {"e2e/sla_ms": np.full(len(series["time_s"]), result.sla_ms)}
    for name in _PERCENTILES if len(result.classes) > 1 else ():
        tags.update({f"e2e/{name}/{label}": series[name][:, index] for index, label in enumerate(result.classes)})
    tags["cluster/capacity_rps"] = series["capacity_rps"]
    tags["cluster/illegal_actions"] = series["illegal_actions"]
    tags.update({f"replicas/{name}": series["replicas"][:, i] for i, name in enumerate(result.microservices)})
    for key, values in series.items():
        group, _, name = key.partition("/")
        if group == "metrics":
            tags[metric_tag(name)] = values
        elif group == "reward" and name:
            tags[key] = values
        elif group == "decision_ms":
            tags[f"decision/{name}_ms"] = values
    return {tag: np.asarray(values, np.float64) for tag, values in tags.items()}


def metric_tag(metric: str) -> str:
    """The tag of a number in `info["metrics"]`."""
    if metric == "reward":
        return "reward/total"
    of_requests = metric.endswith(("_ms", "_violation")) or metric == "failed"
    return f"e2e/{metric}" if of_requests else f"cluster/{metric}"
