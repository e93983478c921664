"""From measurements and the container table to `Telemetry`, the same in shape and meaning as the simulator's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.live.containers import Containers
from imbres_gym.live.histogram import Histogram, merged
from imbres_gym.live.measurement import ClassMeasurement, Measurement
from imbres_gym.telemetry import ClusterInfo, Telemetry

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class InForce:
    """What of a decision is in force.

    Attributes:
        wanted: (M,) replicas.
        proportions: (M, H).
        connections: (P,).
        churn: connections opened and closed since the last interval.
        pair_share: (P, H, H), see `Telemetry`.
    """

    wanted: Ints
    proportions: Floats
    connections: Ints
    churn: int
    pair_share: Floats


class TelemetryBuilder:
    """Keeps the last known value of what may be missing, as `Telemetry` promises.

    Args:
        info: fixed facts of the episode.
        traces: "missing" or "always", see `imbres_gym.live.config.Jaeger.use`.
    """

    def __init__(self, info: ClusterInfo, traces: str = "missing") -> None:
        self._info = info
        self._traces = traces
        shape = len(info.microservices), len(info.hosts)
        self._latency = np.zeros((2, *shape))
        self._age_s = np.zeros(shape)
        self._cpu = np.zeros(shape)
        self._microservice_p95 = np.zeros(shape[0])
        self._interference = np.zeros((shape[1], 4))
        self._e2e = np.zeros((len(info.classes), 4))

    def build(
        self, measurement: Measurement, containers: Containers, in_force: InForce, time_s: float, interval_s: float
    ) -> Telemetry:
        """Telemetry of the interval that ends now.

        Args:
            measurement: of this interval.
            containers: that there are now.
            in_force: what was decided.
            time_s: end of the interval, since the start.
            interval_s: its length.
        """
        known = np.isfinite(measurement.interference)
        self._interference = np.where(known, measurement.interference, self._interference)
        samples = self._own_latency(measurement, containers, interval_s)
        return Telemetry(
            time_s=time_s,
            interval_s=interval_s,
            **self._loads(measurement, containers),
            container_age_s=np.minimum(containers.age_s, time_s),
            own_latency_ms=self._latency[0].copy(),
            own_p95_ms=self._latency[1].copy(),
            samples=samples,
            age_s=np.minimum(self._age_s, time_s),
            microservice_p95_ms=self._microservice_p95.copy(),
            ready=np.minimum(containers.counts(True), self._info.max_replicas),
            pending=np.minimum(containers.counts(False), self._info.max_replicas),
            wanted=np.minimum(in_force.wanted, self._info.max_replicas),
            interference=self._interference.copy(),
            **self._end_to_end(measurement.classes, interval_s),
            proportions=in_force.proportions.copy(),
            connections=in_force.connections,
            connection_churn=in_force.churn,
            pair_share=in_force.pair_share,
            spans=_spans(measurement, containers),
        )

    def _loads(self, measurement: Measurement, containers: Containers) -> dict[str, Any]:
        """Container table, and load and CPU use by (M, H)."""
        measured = [measurement.pods.get(pod.name) for pod in containers.pods]
        rps = np.array([(m.rps if m else None) or 0.0 for m in measured], np.float64)
        load = np.zeros(containers.shape)
        np.add.at(load, (containers.microservice, containers.host), rps)
        use = self._cpu_use([m.cpu_cores if m else None for m in measured], containers)
        return {
            "container_id": containers.id,
            "container_microservice": containers.microservice,
            "container_host": containers.host,
            "container_ready": containers.ready,
            "container_rps": rps,
            "container_cpu": use,
            "load_rps": load,
            "cpu_utilisation": self._cpu.copy(),
        }

    def _cpu_use(self, cores: list[float | None], containers: Containers) -> Floats:
        """(N,) CPU use as a share of the quota; brings that of (M, H) up to date, too.

        A container whose use is not known counts as the others of its microservice on its host; where none is known,
        the last known value stays.
        """
        quota = self._info.cores[containers.microservice]
        # More than the node's cores is a counter that was scraped late.
        use = (
            np.minimum(np.array([np.nan if c is None else c for c in cores], np.float64), self._info.host_cores) / quota
        )
        known = np.isfinite(use)
        cell = containers.microservice, containers.host
        total, count = np.zeros(containers.shape), np.zeros(containers.shape)
        np.add.at(total, (cell[0][known], cell[1][known]), use[known])
        np.add.at(count, (cell[0][known], cell[1][known]), 1.0)
        there = containers.counts(True) + containers.counts(False) > 0
        self._cpu = np.divide(total, count, out=np.where(there, self._cpu, 0.0), where=count > 0.0)
        return np.where(known, use, self._cpu[cell])

    def _own_latency(self, measurement: Measurement, containers: Containers, interval_s: float) -> Ints:
        """Bring the latencies up to date; returns (M, H) samples of this interval."""
        samples = np.zeros(containers.shape, np.int64)
        self._age_s += interval_s
        for microservice in range(containers.shape[0]):
            of_hosts: list[_Own] = []
            for host in range(containers.shape[1]):
                own = self._cell(measurement, containers, microservice, host)
                if own is None:
                    continue
                of_hosts.append(own)
                samples[microservice, host] = max(1, round(own.count_per_s * (interval_s if own.histogram else 1.0)))
                self._latency[:, microservice, host] = own.mean_ms, own.p95_ms
                self._age_s[microservice, host] = own.age_s
            if of_hosts:
                self._microservice_p95[microservice] = _overall_p95(of_hosts)
        return samples

    def _cell(self, measurement: Measurement, containers: Containers, microservice: int, host: int) -> _Own | None:
        """Own latency of a microservice on a host; None without a fresh sample."""
        there = np.flatnonzero((containers.microservice == microservice) & (containers.host == host))
        names = [containers.pods[index].name for index in there]
        traced = [measurement.traced[name].own_ms for name in names if name in measurement.traced]
        from_traces = _from_traces(np.concatenate(traced)) if traced else None
        if from_traces is not None and self._traces == "always":
            return from_traces
        return _from_histograms(measurement, names) or from_traces

    def _end_to_end(self, classes: list[ClassMeasurement], interval_s: float) -> dict[str, Any]:
        requests, failed, slow, rps, latencies = [], [], [], [], []
        for index, measured in enumerate(classes):
            histogram = measured.histogram
            good_rps = histogram.total if histogram else 0.0
            good, bad = round(good_rps * interval_s), round(measured.failures_rps * interval_s)
            if histogram is not None and good > 0:
                quantiles = [histogram.quantile_ms(q) for q in (0.5, 0.95, 0.99)]
                mean_ms = measured.mean_ms if measured.mean_ms is not None else quantiles[0]
                self._e2e[index] = [mean_ms, *quantiles]
            requests.append(good + bad)
            failed.append(bad)
            slow.append(bad + (round(histogram.above(self._info.sla_ms) * good) if histogram else 0))
            rps.append(good_rps + measured.failures_rps)
            latencies.append(histogram.values_ms(good) if histogram else np.zeros(0))
        return {
            "e2e_ms": self._e2e.copy(),
            "requests": np.array(requests, np.int64),
            "failed": np.array(failed, np.int64),
            "slow": np.array(slow, np.int64),
            "workload_rps": np.array(rps, np.float64),
            "latencies_ms": tuple(latencies),
        }


@dataclass(frozen=True, eq=False)
class _Own:
    """Own latency of one microservice on one host."""

    mean_ms: float
    p95_ms: float
    count_per_s: float
    """Of a histogram; of traces, which are a sample, how many visits there are."""
    age_s: float
    histogram: Histogram | None


def _from_histograms(measurement: Measurement, names: list[str]) -> _Own | None:
    known = [
        m for name in names if (m := measurement.pods.get(name)) is not None and m.histogram and m.histogram.total > 0
    ]
    histogram = merged([m.histogram for m in known if m.histogram is not None])
    if histogram is None:
        return None
    counts = [(m.mean_ms, m.histogram.total) for m in known if m.histogram is not None and m.mean_ms is not None]
    weight = sum(count for _, count in counts)
    mean_ms = sum(mean * count for mean, count in counts) / weight if weight > 0.0 else histogram.quantile_ms(0.5)
    ages = [m.age_s for m in known if m.age_s is not None]
    return _Own(mean_ms, histogram.quantile_ms(0.95), histogram.total, min(ages, default=0.0), histogram)


def _from_traces(own_ms: Floats) -> _Own:
    # How many visits the sampled traces stand for is not known: they count as themselves, once.
    return _Own(float(own_ms.mean()), float(np.percentile(own_ms, 95.0)), float(own_ms.size), 0.0, None)


def _overall_p95(of_hosts: list[_Own]) -> float:
    histograms = [own.histogram for own in of_hosts if own.histogram is not None]
    together = merged(histograms) if len(histograms) == len(of_hosts) else None
    if together is not None:
        return together.quantile_ms(0.95)
    weights = np.array([own.count_per_s for own in of_hosts])
    return float(np.average([own.p95_ms for own in of_hosts], weights=weights))


def _spans(measurement: Measurement, containers: Containers) -> NDArray[np.void]:
    """The spans with the ids of their containers, -1 where a container is gone."""
    ids = {pod.name: identity for pod, identity in zip(containers.pods, containers.id.tolist(), strict=True)}
    spans = measurement.spans.copy()
    spans["container"] = [ids.get(pod, -1) for pod in measurement.span_pods]
    return spans
