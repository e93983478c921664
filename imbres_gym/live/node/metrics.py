"""The agent's own metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "imbres_node_agent"
UPDATE_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Around the goal for 100 connections, 10 ms."""


class Metrics:
    """Counters of one agent, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.updates = Counter(
            f"{PREFIX}_updates",
            "Replacements of a pod's rules: written, repaired (someone else changed them), removed, failed",
            ["result"],
            registry=self.registry,
        )
        self.update_seconds = Histogram(
            f"{PREFIX}_update_seconds",
            "Time to replace the rules of one pod",
            buckets=UPDATE_BUCKETS_S,
            registry=self.registry,
        )
        self.pods = Gauge(f"{PREFIX}_pods", "Pods with rules in force", registry=self.registry)
        self.plans = Gauge(f"{PREFIX}_plans", "Plans of this node", registry=self.registry)
        self.problems = Gauge(
            f"{PREFIX}_plans_not_in_force", "Plans of this node that are not wholly in force", registry=self.registry
        )
        self.watch_failures = Counter(
            f"{PREFIX}_watch_failures",
            "Ends of the watch: expired, refused, unreachable, unreadable, silent",
            ["reason"],
            registry=self.registry,
        )
        self.api_failures = Counter(
            f"{PREFIX}_api_failures", "Failed requests for pods, namespaces and status", registry=self.registry
        )
        self.drained = Counter(
            f"{PREFIX}_drained_connections", "Established connections closed", registry=self.registry
        )
