"""The doctor's checks of the sources of telemetry."""

from __future__ import annotations

from collections.abc import Iterator

from imbres_gym.live.config import QUERIES, LiveConfig
from imbres_gym.live.coordinator import Coordinator
from imbres_gym.live.health import TelemetryHealth
from imbres_gym.live.http import Unreachable
from imbres_gym.live.jaeger import JaegerClient
from imbres_gym.live.observer import ClusterState
from imbres_gym.live.prometheus import PrometheusClient
from imbres_gym.live.visits import find_visits

OPTIONAL = {
    "node_memory_bandwidth": "interference by memory bandwidth counts as 0",
    "node_network": "interference by the network counts as 0",
    "node_llc": "interference by the last-level cache counts as 0",
    "e2e_failures": "no request counts as failed",
}
"""Queries that may be without an answer, and what that means."""
Finding = tuple[str, bool, str, str]
"""Name, whether it is right, what was seen, fix."""


def check_telemetry(config: LiveConfig, state: ClusterState | None) -> Iterator[Finding]:
    """Prometheus, every query, the whole of the telemetry, and Jaeger.

    Args:
        config: of the run.
        state: of the cluster; None if it is not known.
    """
    with PrometheusClient(config.prometheus.url, config.prometheus.timeout_s) as prometheus:
        try:
            prometheus.query("vector(1)")
        except Unreachable as error:
            yield "prometheus", False, str(error), "start it, or correct prometheus.url"
        else:
            yield "prometheus", True, f"{config.prometheus.url} answers", ""
            for name in QUERIES:
                yield _check_query(config, prometheus, name)
            if state is not None and state.pods:
                yield _check_whole(config, state)
    if config.jaeger is not None:
        yield _check_jaeger(config, prometheus.now_s())


def _check_query(config: LiveConfig, prometheus: PrometheusClient, name: str) -> Finding:
    label = f"metric {name}"
    promql = config.prometheus.query(name, config.namespace, config.application.name)
    without = OPTIONAL.get(name)
    if name.startswith("own_latency") and config.jaeger is not None:
        without = "own latency comes from traces"
    if not promql:
        return label, without is not None, "left out" + (f": {without}" if without else ""), ""
    try:
        vector = prometheus.query(promql)
    except Unreachable as error:
        return label, False, str(error), f"correct prometheus.queries.{name}"
    if vector.samples:
        return label, True, f"{len(vector.samples)} series", ""
    if without is not None:
        return label, True, f"nothing: {without}", ""
    fix = f"send some requests first, scrape what is missing, or correct prometheus.queries.{name}"
    return label, False, f"no series for {promql}", fix


def _check_whole(config: LiveConfig, state: ClusterState) -> Finding:
    coordinator = Coordinator(config, state.nodes)
    try:
        measurement = coordinator.measure([pod.name for pod in state.pods])
    finally:
        coordinator.close()
    reasons = TelemetryHealth(config).judge(measurement, state.pods)
    dropped = ", ".join(f"{count} {kind}" for kind, count in measurement.dropped.items())
    seen = "; ".join(reasons) or "complete and fresh"
    return "telemetry", not reasons, seen + (f" (not usable: {dropped})" if dropped else ""), ""


def _check_jaeger(config: LiveConfig, now_s: float) -> Finding:
    assert config.jaeger is not None
    client = JaegerClient(config.jaeger)
    entries = [config.application.microservice_names[index] for index in config.application.entries]
    try:
        traces = client.recent(entries, now_s)
    except Unreachable as error:
        return "jaeger", False, str(error), "start it, or correct jaeger.url"
    finally:
        client.close()
    visits = find_visits(traces.spans)
    if not visits:
        services = ", ".join(entries)
        return (
            "jaeger",
            False,
            f"answers, but has no recent trace of {services}",
            "send some requests first, or sample more",
        )
    unnamed = sum(not visit.span.pod for visit in visits)
    if unnamed == len(visits):
        fix = "set the resource attribute k8s.pod.name in the application's tracing"
        return "jaeger", False, f"{len(visits)} spans, but none says its pod", fix
    return "jaeger", True, f"{len(visits)} spans of recent traces", ""
