"""Metrics of the controller itself, and the port on which it shows them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any


class Heartbeat:
    """Whether the controller is alive: it must have beaten within a time, and is not before its first beat.

    Args:
        limit_s: longest time between two beats.
        clock: monotonic [s].
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._last_s = -math.inf

    def beat(self) -> None:
        """The controller is alive now."""
        self._last_s = self._clock()

    @property
    def alive(self) -> bool:
        """Whether the last beat is recent."""
        return self._clock() - self._last_s <= self._limit_s


class LiveMetrics:
    """Counters and gauges of one live run, in a registry of their own, and its sign of life.

    Args:
        limit_s: longest time between two control intervals of a controller that is alive.
    """

    def __init__(self, limit_s: float = 60.0) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.heartbeat = Heartbeat(limit_s)
        self.registry = CollectorRegistry()
        on: Any = {"registry": self.registry}
        self.decisions = Counter("imbres_live_decisions", "Decisions by what became of them.", ["outcome"], **on)
        self.holds = Counter("imbres_live_holds", "Reasons for which the last plan was held.", ["reason"], **on)
        self.scalings = Counter(
            "imbres_live_scalings", "Changes of replica counts.", ["microservice", "direction"], **on
        )
        self.plans = Counter("imbres_live_connection_plans", "Connection plans by what was done.", ["action"], **on)
        self.errors = Counter("imbres_live_errors", "What failed.", ["source"], **on)
        self.dropped = Counter(
            "imbres_live_dropped_measurements", "Measurements that could not be used.", ["kind"], **on
        )
        self.leader = Gauge("imbres_live_leader", "1 if this controller leads.", **on)
        self.frozen = Gauge("imbres_live_frozen", "1 if the controller is frozen after repeated failures.", **on)
        self.killed = Gauge("imbres_live_kill_switch", "1 if the namespace's kill switch is on.", **on)
        self.telemetry_age_s = Gauge("imbres_live_telemetry_age_seconds", "Age of the newest own latency.", **on)
        self.p95_s = Gauge("imbres_live_e2e_p95_seconds", "p95 of the E2E latency.", ["request_class"], **on)
        self.sla_s = Gauge("imbres_live_sla_seconds", "Target of the p95.", **on)
        self.wanted = Gauge("imbres_live_replicas", "Replicas wanted.", ["microservice"], **on)
        self.interval_s = Histogram(
            "imbres_live_work_seconds",
            "Time to measure, decide and act in one control interval.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            **on,
        )
