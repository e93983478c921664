"""Whether telemetry is good enough to decide on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imbres_gym.live.config import LiveConfig
from imbres_gym.live.measurement import Measurement, PodMeasurement
from imbres_gym.live.observer import Pod

CPU_GRACE_S = 60.0
"""Time until the CPU use of a new pod must be known [s]: the range of the default query."""


class TelemetryHealth:
    """Judges measurements; remembers which pods have ever reported.

    A pod that never reported may never have been called, and says nothing; but where others of its microservice report,
    or it did so itself before, its silence is a gap.

    Args:
        config: limits, and which microservices are entries.
    """

    def __init__(self, config: LiveConfig) -> None:
        self._config = config
        self._reported: set[str] = set()
        self._ages: dict[str, int] = {}
        prometheus, interval_s = config.prometheus, config.control_interval_s
        self._grace = int(np.ceil(2.0 * prometheus.window_s / interval_s)) + 1
        """Control intervals until a new pod must be in the metrics: two windows, scraped and rated."""
        self._cpu_grace = int(np.ceil(CPU_GRACE_S / interval_s))

    def judge(self, measurement: Measurement, pods: Sequence[Pod]) -> tuple[str, ...]:
        """Reasons not to decide on this measurement; empty if it is good.

        Args:
            measurement: of this interval.
            pods: that exist.
        """
        ready = [pod for pod in pods if pod.ready]
        self._ages = {pod.uid: self._ages.get(pod.uid, 0) + 1 for pod in ready}
        reasons = [f"unreachable: {error}" for error in measurement.errors if error.startswith("Prometheus")]
        if not reasons:
            reasons += self._gaps(measurement, ready)
            reasons += self._stale(measurement, ready)
            reasons += self._cpu(measurement, ready)
            reasons += self._hosts(measurement)
            reasons += self._end_to_end(measurement, ready)
        return tuple(reasons)

    def _gaps(self, measurement: Measurement, ready: Sequence[Pod]) -> list[str]:
        reports = {pod.uid for pod in ready if _reports(measurement.pods[pod.name])}
        talking = {pod.microservice for pod in ready if pod.uid in reports}
        silent = [
            pod
            for pod in ready
            if pod.uid not in reports
            and (pod.uid in self._reported or (pod.microservice in talking and self._ages[pod.uid] > self._grace))
        ]
        self._reported = {uid for uid in self._reported if uid in self._ages} | reports
        if not reports:
            return ["partial: no container reports its requests"]
        if len(reports) < self._config.safety.min_coverage * (len(reports) + len(silent)):
            return [f"partial: {len(silent)} of {len(reports) + len(silent)} containers are silent"]
        return []

    def _stale(self, measurement: Measurement, ready: Sequence[Pod]) -> list[str]:
        ages = [age for pod in ready if (age := measurement.pods[pod.name].age_s) is not None]
        old = sum(age > self._config.safety.max_age_s for age in ages)
        if ages and old > (1.0 - self._config.safety.min_coverage) * len(ages):
            limit_s = self._config.safety.max_age_s
            return [f"stale: latencies of {old} of {len(ages)} containers are older than {limit_s:g} s"]
        return []

    def _cpu(self, measurement: Measurement, ready: Sequence[Pod]) -> list[str]:
        """An unknown CPU use must not be read as an idle container; who does without leaves the query out."""
        if not self._config.prometheus.query("pod_cpu_cores", "", ""):
            return []
        grown = [pod for pod in ready if self._ages[pod.uid] > self._cpu_grace]
        unknown = sum(measurement.pods[pod.name].cpu_cores is None for pod in grown)
        if unknown > (1.0 - self._config.safety.min_coverage) * len(grown):
            return [f"partial: the CPU use of {unknown} of {len(grown)} containers is not known"]
        return []

    def _hosts(self, measurement: Measurement) -> list[str]:
        known = np.isfinite(measurement.interference[:, 0])
        if known.sum() < self._config.safety.min_coverage * len(known):
            return [f"partial: the CPU use of {int((~known).sum())} of {len(known)} nodes is not known"]
        return []

    def _end_to_end(self, measurement: Measurement, ready: Sequence[Pod]) -> list[str]:
        app = self._config.application
        entries = {app.microservice_names[index] for index in app.entries}
        entered = sum(measurement.pods[pod.name].rps or 0.0 for pod in ready if pod.microservice in entries)
        histograms = [c.histogram for c in measurement.classes if c.histogram is not None]
        ended = sum(histogram.total for histogram in histograms) + sum(c.failures_rps for c in measurement.classes)
        if entered > 0.0 and not histograms and ended == 0.0:
            return ["partial: requests enter, but no E2E latency is known"]
        if ended > 0.0 and entered == 0.0:
            return ["contradictory: requests end, but none enter"]
        return []


def _reports(pod: PodMeasurement) -> bool:
    """Whether a pod's load is known; one whose histogram shows that nothing was served had none."""
    return pod.rps is not None or (pod.histogram is not None and pod.histogram.total == 0.0)
