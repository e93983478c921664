"""What the tracing coordinator measured in one control interval, before it becomes telemetry."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imbres_gym.live.histogram import Histogram
from imbres_gym.telemetry import SPAN

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PodMeasurement:
    """One pod; None is what is not known.

    Attributes:
        rps: calls/s that arrived.
        cpu_cores: CPU use [cores].
        mean_ms: mean own latency.
        histogram: of own latency.
        age_s: of the newest latency sample.
    """

    rps: float | None = None
    cpu_cores: float | None = None
    mean_ms: float | None = None
    histogram: Histogram | None = None
    age_s: float | None = None


@dataclass(frozen=True, eq=False)
class ClassMeasurement:
    """One request class.

    Attributes:
        histogram: of the E2E latency of requests that ended without failure; None if nothing is known.
        mean_ms: its mean.
        failures_rps: requests/s that failed.
    """

    histogram: Histogram | None = None
    mean_ms: float | None = None
    failures_rps: float = 0.0


@dataclass(frozen=True, eq=False)
class TracedLatency:
    """Own latencies of one pod's visits in the traces that were read."""

    own_ms: Floats


@dataclass(eq=False)
class Measurement:
    """Everything of one interval.

    Attributes:
        interference: (H, 4) utilisation of CPU, memory bandwidth, network, LLC [0-1]; NaN where it is not known.
        pods: pod name -> what is known of it.
        classes: (C,) request classes.
        traced: pod name -> own latencies from traces.
        spans: sampled spans, of dtype `SPAN`; `container` is -1, since ids are not the coordinator's.
        span_pods: pod name of each span, "" if unknown.
        dropped: kind of what could not be used (NaN, contradictory, of an unknown pod ...) -> how often.
        errors: sources that did not answer; the measurement is without them.
    """

    interference: Floats
    pods: dict[str, PodMeasurement] = field(default_factory=dict)
    classes: list[ClassMeasurement] = field(default_factory=list)
    traced: dict[str, TracedLatency] = field(default_factory=dict)
    spans: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, SPAN))
    span_pods: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def drop(self, kind: str, count: int = 1) -> None:
        """Count something that could not be used."""
        if count:
            self.dropped[kind] = self.dropped.get(kind, 0) + count
