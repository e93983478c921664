"""What a live run says of itself: journal lines and metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.live.actions import Outcome
from imbres_gym.live.config import LiveConfig
from imbres_gym.live.journal import Journal, rounded
from imbres_gym.live.keeper import Step
from imbres_gym.live.measurement import Measurement
from imbres_gym.live.metrics import LiveMetrics
from imbres_gym.live.observer import ClusterState
from imbres_gym.live.scaling import Scaling
from imbres_gym.telemetry import ClusterInfo, Telemetry

_PLAN_COUNTS = ("nodes", "written", "renewed", "deleted", "pending")


class Reporter:
    """Writes the journal and keeps the metrics of one run.

    Args:
        info: names.
        journal: one line for each event.
        metrics: of the controller.
        dry_run: whether nothing is changed.
    """

    def __init__(self, info: ClusterInfo, journal: Journal, metrics: LiveMetrics, dry_run: bool) -> None:
        self._info = info
        self._journal = journal
        self._metrics = metrics
        self._dry_run = dry_run
        self._seen: dict[str, Any] = {}
        self._standby_behind: str | None = None

    def standby(self, holder: str) -> None:
        """Another controller leads; this one waits. A line for each leader, not for each attempt."""
        self._metrics.heartbeat.beat()
        if holder != self._standby_behind:
            self._standby_behind = holder
            self._journal.write("standby", leader=holder)

    def started(self, config: LiveConfig, state: ClusterState, adopted: list[int]) -> None:
        """The run begins."""
        self._metrics.sla_s.set(config.sla_ms / 1000.0)
        names = self._info.microservices
        self._journal.write(
            "start",
            application=config.application.name,
            namespace=config.namespace,
            dry_run=self._dry_run,
            nodes=list(self._info.hosts),
            replicas={name: state.workloads[name].replicas for name in names},
            original_replicas={n: w.original for n, w in state.workloads.items() if w.original is not None},
            plans_found=[self._pair(pair) for pair in adopted],
        )

    def measured(
        self, telemetry: Telemetry, measurement: Measurement, state: ClusterState, leads: bool, frozen: bool
    ) -> None:
        """One interval was measured; it is in the journal with the decision that follows."""
        metrics = self._metrics
        metrics.heartbeat.beat()
        for kind, count in measurement.dropped.items():
            metrics.dropped.labels(kind).inc(count)
        for error in measurement.errors:
            metrics.errors.labels(error.split(" ", 1)[0].lower()).inc()
        metrics.leader.set(leads)
        metrics.frozen.set(frozen)
        metrics.killed.set(state.kill_switch)
        served = telemetry.samples > 0
        metrics.telemetry_age_s.set(telemetry.age_s[served].min() if served.any() else telemetry.time_s)
        for name, row in zip(self._info.classes, telemetry.e2e_ms, strict=True):
            metrics.p95_s.labels(name).set(row[2] / 1000.0)
        for name, wanted in zip(self._info.microservices, telemetry.wanted, strict=True):
            metrics.wanted.labels(name).set(wanted)
        self._seen = {
            "workload_rps": rounded(telemetry.workload_rps.sum()),
            "p95_ms": {name: rounded(row[2]) for name, row in zip(self._info.classes, telemetry.e2e_ms, strict=True)},
            "failed": int(telemetry.failed.sum()),
            "containers": int(telemetry.ready.sum() + telemetry.pending.sum()),
            "pending": int(telemetry.pending.sum()),
            "node_cpu": {n: rounded(row[0]) for n, row in zip(self._info.hosts, telemetry.interference, strict=True)},
            "dropped": measurement.dropped,
            "errors": measurement.errors,
        }

    def decided(
        self,
        time_s: float,
        reasons: tuple[str, ...],
        left_out: list[str],
        step: Step,
        outcome: Outcome,
    ) -> None:
        """One decision: what became of it, and why."""
        metrics = self._metrics
        result = self._result(reasons, outcome)
        metrics.decisions.labels(result).inc()
        for reason in reasons:
            metrics.holds.labels(reason.split(":")[0]).inc()
        self._count_plans(outcome)
        for scaling in outcome.scalings:
            if scaling.given != scaling.current and not scaling.error:
                direction = "out" if scaling.given > scaling.current else "in"
                metrics.scalings.labels(scaling.microservice, direction).inc()
        self._journal.write(
            "decision",
            time_s=rounded(time_s),
            outcome=result,
            reasons=list(reasons),
            left_out=left_out,
            measured=self._seen,
            replicas=[_scaling(scaling) for scaling in outcome.scalings],
            proportions=self._shares(step.proportions),
            bounded={self._pair(pair): rounded(share) for pair, share in step.bounded.items()},
            plans=_plan_counts(outcome),
            node_agents=outcome.agents,
            errors=outcome.errors,
        )

    def upheld(self, gone: list[str], outcome: Outcome) -> None:
        """Containers went between two control intervals; the rest of the plan is upheld without them."""
        self._count_plans(outcome)
        self._journal.write("upkeep", gone=gone, plans=_plan_counts(outcome), errors=outcome.errors)

    def stopped(self, how: str, outcome: Outcome) -> None:
        """The run ends, and how the cluster is left."""
        self._journal.write(
            "stop",
            left=how,
            replicas=[_scaling(scaling) for scaling in outcome.scalings],
            plans_deleted=0 if outcome.plans is None else outcome.plans.deleted,
            errors=outcome.errors,
        )

    def _count_plans(self, outcome: Outcome) -> None:
        if outcome.errors:
            self._metrics.errors.labels("kubernetes").inc(len(outcome.errors))
        if outcome.agents:
            self._metrics.errors.labels("node-agent").inc(len(outcome.agents))
        if outcome.plans is not None:
            for action in ("written", "renewed", "deleted"):
                self._metrics.plans.labels(action).inc(getattr(outcome.plans, action))

    def _result(self, reasons: tuple[str, ...], outcome: Outcome) -> str:
        if reasons:
            return "held"
        if outcome.errors:
            return "failed"
        return "dry-run" if self._dry_run else "applied"

    def _shares(self, proportions: NDArray[np.float64]) -> dict[str, dict[str, float | None]]:
        return {
            name: {host: rounded(share) for host, share in zip(self._info.hosts, row, strict=True) if share > 0.0}
            for name, row in zip(self._info.microservices, proportions, strict=True)
        }

    def _pair(self, pair: int) -> str:
        up, down = self._info.pairs[pair]
        return f"{self._info.microservices[up]}>{self._info.microservices[down]}"


def _plan_counts(outcome: Outcome) -> dict[str, Any] | None:
    return None if outcome.plans is None else {name: vars(outcome.plans)[name] for name in _PLAN_COUNTS}


def _scaling(scaling: Scaling) -> dict[str, Any]:
    return {name: value for name, value in vars(scaling).items() if value not in (None, ())}
