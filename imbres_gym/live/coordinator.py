"""The tracing coordinator: interference, load, own latency and E2E latency from Prometheus, and traces from Jaeger.

What is NaN, infinite, negative or otherwise impossible, or said of a pod that does not exist, counts as missing: it is
left out and counted. The ages of latencies are differences of times that Prometheus itself gives, and traces are asked
for by its clock, so that a skewed clock of this machine does no harm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from imbres_gym.live.config import LiveConfig
from imbres_gym.live.histogram import Histogram, from_buckets
from imbres_gym.live.http import Unreachable
from imbres_gym.live.jaeger import JaegerClient
from imbres_gym.live.measurement import ClassMeasurement, Measurement, PodMeasurement
from imbres_gym.live.observer import Node
from imbres_gym.live.prometheus import PrometheusClient, Sample, Vector
from imbres_gym.live.trace_spans import SpanLog, traced_latencies

RESOURCE_QUERIES = ("node_cpu", "node_memory_bandwidth", "node_network", "node_llc")
"""Queries of the columns of `Telemetry.interference`."""
UNIT_MS = {"s": 1000.0, "ms": 1.0}
MAX_UTILISATION = 1.5
"""A utilisation above this is no rounding (a counter scraped late makes a node 110 % busy), but wrong: estimate."""


class Coordinator:
    """Measures one application.

    Args:
        config: where, and with which queries.
        hosts: the nodes, in the order of every array over hosts.
        clock: monotonic [s].
    """

    def __init__(self, config: LiveConfig, hosts: Sequence[Node], clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._hosts = list(hosts)
        self._prometheus = PrometheusClient(config.prometheus.url, config.prometheus.timeout_s)
        self._jaeger = JaegerClient(config.jaeger) if config.jaeger else None
        self._span_log = SpanLog(config.application)
        self._clock = clock
        self._ever: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """An episode starts now: the times of spans count from here."""
        self._began_s = self._clock()

    def measure(self, pods: Collection[str]) -> Measurement:
        """Everything that can be known now.

        Never raises because of a source: what a source did not answer is missing, and `errors` says why.

        Args:
            pods: names of the application's pods that exist now.
        """
        # A pod that is gone is in the metrics for a while still: that is no contradiction.
        self._ever.update(pods)
        measurement = Measurement(np.full((len(self._hosts), len(RESOURCE_QUERIES)), np.nan))
        measurement.classes = [ClassMeasurement() for _ in self._config.application.class_names]
        try:
            self._measure_hosts(measurement)
            self._measure_pods(measurement, pods)
            self._measure_classes(measurement)
        except Unreachable as error:
            # The other queries would only wait for the same time-out.
            measurement.errors.append(str(error))
        self._trace(measurement)
        return measurement

    def close(self) -> None:
        """Close all connections."""
        self._prometheus.close()
        if self._jaeger is not None:
            self._jaeger.close()

    def _query(self, name: str, measurement: Measurement) -> Vector:
        config = self._config
        promql = config.prometheus.query(name, config.namespace, config.application.name)
        if not promql:
            return Vector((), None, 0)
        vector = self._prometheus.query(promql)
        measurement.drop("not-a-number", vector.dropped)
        return vector

    def _measure_hosts(self, measurement: Measurement) -> None:
        index = {name: h for h, node in enumerate(self._hosts) for name in (node.name, node.ip) if name}
        for column, name in enumerate(RESOURCE_QUERIES):
            for sample in self._query(name, measurement).samples:
                host = next((index[v] for v in _host_names(sample) if v in index), None)
                if host is None:
                    measurement.drop("unknown-node")
                elif not 0.0 <= sample.value <= MAX_UTILISATION:
                    measurement.drop("contradictory")
                else:
                    measurement.interference[host, column] = min(sample.value, 1.0)

    def _measure_pods(self, measurement: Measurement, pods: Collection[str]) -> None:
        rps = self._by_pod("requests", measurement, pods)
        cpu = self._by_pod("pod_cpu_cores", measurement, pods)
        total = self._by_pod("own_latency_sum", measurement, pods)
        buckets = self._query("own_latency_buckets", measurement)
        unit_ms = UNIT_MS[self._config.prometheus.own_latency_unit]
        named = [(sample.labels["pod"], sample) for sample in self._mine(buckets.samples, measurement, pods)]
        histograms = _histograms(named, unit_ms, measurement)
        at = self._query("own_latency_time", measurement)
        ages = {
            sample.labels["pod"]: max(0.0, (at.time_s or 0.0) - sample.value)
            for sample in self._mine(at.samples, measurement, pods)
        }
        for pod in pods:
            histogram = histograms.get(pod)
            measurement.pods[pod] = PodMeasurement(
                rps=rps.get(pod),
                cpu_cores=cpu.get(pod),
                mean_ms=_mean_ms(total.get(pod), unit_ms, histogram),
                histogram=histogram,
                age_s=ages.get(pod),
            )

    def _measure_classes(self, measurement: Measurement) -> None:
        names = self._config.application.class_names
        unit_ms = UNIT_MS[self._config.prometheus.e2e_unit]
        total = {name: sample.value for name, sample in self._by_class("e2e_sum", measurement)}
        histograms = _histograms(self._by_class("e2e_buckets", measurement), unit_ms, measurement)
        failures: dict[str, float] = {}
        for name, sample in self._by_class("e2e_failures", measurement):
            if sample.value >= 0.0:
                failures[name] = sample.value
            else:
                measurement.drop("contradictory")
        measurement.drop("unknown-class", len((set(histograms) | set(failures)) - set(names)))
        for index, name in enumerate(names):
            histogram = histograms.get(name)
            mean_ms = _mean_ms(total.get(name), unit_ms, histogram)
            measurement.classes[index] = ClassMeasurement(histogram, mean_ms, failures.get(name, 0.0))

    def _by_class(self, query: str, measurement: Measurement) -> list[tuple[str, Sample]]:
        """Samples with their request class; where the application has one only, it need not be named."""
        names = self._config.application.class_names
        default = names[0] if len(names) == 1 else ""
        samples = self._query(query, measurement).samples
        return [(sample.labels.get("request_class", default), sample) for sample in samples]

    def _by_pod(self, name: str, measurement: Measurement, pods: Collection[str]) -> dict[str, float]:
        values: dict[str, float] = {}
        for sample in self._mine(self._query(name, measurement).samples, measurement, pods):
            if sample.value < 0.0:
                measurement.drop("contradictory")
            else:
                values[sample.labels["pod"]] = sample.value
        return values

    def _mine(self, samples: Iterable[Sample], measurement: Measurement, pods: Collection[str]) -> list[Sample]:
        """The samples of pods that exist; those of pods that never did are counted."""
        mine = [sample for sample in samples if sample.labels.get("pod") in pods]
        measurement.drop("unknown-pod", sum(sample.labels.get("pod") not in self._ever for sample in samples))
        return mine

    def _trace(self, measurement: Measurement) -> None:
        if self._jaeger is None:
            return
        application = self._config.application
        entries = [application.microservice_names[index] for index in application.entries]
        now_s, since_start_s = self._prometheus.now_s(), self._clock() - self._began_s
        try:
            traces = self._jaeger.recent(entries, now_s)
        except Unreachable as error:
            measurement.errors.append(str(error))
            return
        measurement.drop("unreadable-span", traces.dropped)
        measurement.traced = traced_latencies(traces.spans)
        measurement.spans, measurement.span_pods = self._span_log.add(traces.spans, now_s - since_start_s)


def _host_names(sample: Sample) -> list[str]:
    """What may be a node's name or address in the labels of a sample, the label `node` first."""
    labels: dict[str, Any] = sample.labels
    ordered = [labels[name] for name in ("node", "nodename", "instance") if name in labels]
    return [name for value in ordered for name in (value, value.rpartition(":")[0]) if name]


def _histograms(named: Iterable[tuple[str, Sample]], unit_ms: float, measurement: Measurement) -> dict[str, Histogram]:
    buckets: dict[str, dict[float, float]] = {}
    for name, sample in named:
        try:
            edge = float(sample.labels["le"])
        except (KeyError, ValueError):
            measurement.drop("contradictory")
            continue
        buckets.setdefault(name, {})[edge] = sample.value
    histograms: dict[str, Histogram] = {}
    for name, cumulative in buckets.items():
        histogram = from_buckets(cumulative, unit_ms)
        if histogram is None:
            measurement.drop("contradictory")
        else:
            histograms[name] = histogram
    return histograms


def _mean_ms(sum_rate: float | None, unit_ms: float, histogram: Histogram | None) -> float | None:
    """Mean of a histogram by its sum; None if unknown, impossible, or if there was no observation."""
    if sum_rate is None or histogram is None or histogram.total <= 0.0 or sum_rate < 0.0:
        return None
    mean_ms = unit_ms * sum_rate / histogram.total
    return mean_ms if math.isfinite(mean_ms) else None
