"""`info["metrics"]`: a flat dictionary of floats per step, the same for every environment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.percentiles import class_tails
from imbres_gym.telemetry import Telemetry

METRICS = (
    "containers",
    "connections",
    "connection_churn",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "window_p95_ms",
    "sla_violation",
    "request_violation",
    "failed",
    "workload_rps",
    "load_variance",
    "latency_cv",
)
"""What `envs.account` computes of a step:

- `containers`: that exist, pending ones included [-]; mean over the control intervals of the step.
- `connections`: open connections of all pairs [-]; mean over the intervals.
- `connection_churn`: connections opened and closed in the step [-].
- `p50_ms`, `p95_ms`, `p99_ms`: E2E latency of all requests that ended in the step [ms]; a failed request counts as
  `FAILED_MS`; 0 without requests.
- `window_p95_ms`: p95 of the worst request class of 20 requests or more in the last scaling interval [ms].
- `sla_violation`: 1 if `window_p95_ms` exceeds the SLA, else 0.
- `request_violation`: share of requests that were slower than the SLA or failed [0-1]; 0 without requests.
- `failed`: share of requests that failed [0-1].
- `workload_rps`: end-user requests that arrived [1/s]; mean over the intervals.
- `load_variance`: see `imbres_gym.imbalance.load_variance`; mean over the intervals.
- `latency_cv`: see `imbres_gym.imbalance.latency_cv`; mean over the intervals.

`info["metrics"]` has the `reward` besides.
"""


def class_p95_ms(telemetry: Telemetry) -> NDArray[np.float64]:
    """p95 of the E2E latency of each request class (C,) [ms]; a failed request counts as `FAILED_MS`."""
    return np.array(class_tails(telemetry.latencies_ms, telemetry.requests, telemetry.failed, 95.0))
