"""A live cluster as a `Cluster`: measured by the coordinator, acted on by the two controllers, guarded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from imbres_gym.config import ConfigError
from imbres_gym.live.actions import Actions, Outcome
from imbres_gym.live.config import LiveConfig
from imbres_gym.live.containers import ContainerRegistry, Containers
from imbres_gym.live.coordinator import Coordinator
from imbres_gym.live.health import TelemetryHealth
from imbres_gym.live.info import live_info, problems
from imbres_gym.live.journal import Journal
from imbres_gym.live.keeper import PlanKeeper
from imbres_gym.live.lease import Elector, LeadershipLost, make_identity
from imbres_gym.live.metrics import LiveMetrics
from imbres_gym.live.observer import ClusterState, KubeObserver
from imbres_gym.live.report import Reporter
from imbres_gym.live.safety import Guard
from imbres_gym.live.telemetry_builder import TelemetryBuilder
from imbres_gym.plan import Balancer, Plan
from imbres_gym.telemetry import ClusterInfo, Telemetry

if TYPE_CHECKING:
    from lightkube import Client

    from imbres_gym.live.measurement import Measurement


class LiveCluster:
    """A real cluster behind the protocol of `imbres_gym.cluster.Cluster`.

    Time is wall-clock time: `advance` sleeps to the end of the control interval. There is no past to go back to, so
    that `snapshot` and `restore` refuse. `reset` changes nothing: replica counts and connections stay as they are
    found, also those that a controller before this one has left.

    Nothing that happens to the cluster or to the sources of telemetry raises in `apply` and `advance`, but for one:
    that another controller has taken over.

    Args:
        config: which application, and what may be done.
        client: to Kubernetes, of the right context; `close` closes it.
        dry_run: decide and write the journal, but change nothing, and take no part in elections.
        journal: gets one line for every decision.
        metrics: of the controller.
        clock: monotonic [s].
        sleep: waits so many seconds.

    Raises:
        ConfigError: the application cannot be controlled as it is; says what to fix.
    """

    def __init__(
        self,
        config: LiveConfig,
        client: Client,
        *,
        dry_run: bool = False,
        journal: Journal | None = None,
        metrics: LiveMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._client = client
        self._dry_run = dry_run
        self._journal = journal or Journal()
        self._metrics = metrics or LiveMetrics()
        self._clock = clock
        self._sleep = sleep
        self._observer = KubeObserver(client, config)
        try:
            self._state = self._first_look()
        except ConfigError:
            client.close()
            raise
        self._info = live_info(config, self._state)
        identity = make_identity()
        lease = f"imbres-gym.{config.application.name}"
        self._elector = Elector(client, config.namespace, lease, identity, config.election)
        self._coordinator = Coordinator(config, self._state.nodes, clock)
        self._actions = Actions(client, config, self._info, identity, lambda: self._elector.leads, dry_run)
        self._reporter = Reporter(self._info, self._journal, self._metrics, dry_run)
        self._started = False
        self._closed = False

    @property
    def info(self) -> ClusterInfo:
        """What is fixed for an episode."""
        return self._info

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the last plan is held at the moment; empty if the agent's decisions count."""
        found = list(self._telemetry_reasons)
        if self._state.kill_switch:
            found.append("kill-switch")
        if self._guard.frozen:
            found.append("frozen")
        if not self._dry_run and not self._elector.leads:
            found.append("not-leader: the lease could not be renewed")
        return tuple(found)

    def reset(self, seed: int) -> Telemetry:
        """Wait until this controller leads, and measure one control interval; nothing is changed.

        Args:
            seed: without meaning here.
        """
        self._lead()
        self._guard = Guard(self._config.safety)
        self._health = TelemetryHealth(self._config)
        self._registry = ContainerRegistry(self._info)
        self._keeper = PlanKeeper(self._info, self._config.safety.max_weight_change)
        use = self._config.jaeger.use if self._config.jaeger else "missing"
        self._builder = TelemetryBuilder(self._info, use)
        self._telemetry_reasons: tuple[str, ...] = ()
        self._time_s = 0.0
        self._start_s = self._next_s = self._clock()
        self._coordinator.begin()
        self._containers = self._registry.number(self._state.pods, 0.0)
        self._keeper.forget(self._containers.table())
        found = self._actions.plan_in_force(self._state, self._containers)
        if found.links:
            self._keeper.adopt(found, self._containers.table())
        self._reporter.started(self._config, self._state, sorted(found.links))
        self._started = True
        return self.advance(self._info.control_interval_s)

    def apply(self, plan: Plan) -> None:
        """Put a plan in force as far as it is safe; what became of it is in the journal.

        Load proportions and connections act through the node agents, replicas through the Deployments. Balancers other
        than `WEIGHTED` and placements are not possible here and left out, with a reason.

        Raises:
            LeadershipLost: another controller acts now.
        """
        self._must_be_started()
        if self._elector.lost:
            what = f"{self._config.application.name!r} in namespace {self._config.namespace!r}"
            raise LeadershipLost(f"{self._elector.holder or 'another controller'} leads {what} now")
        reasons = self.reasons
        table = self._containers.table()
        step = self._keeper.hold(table) if reasons else self._keeper.propose(plan, table)
        wanted = {} if reasons or plan.replicas is None else self._replicas(plan)
        if self._state.kill_switch or any(reason.startswith(("not-leader", "api:")) for reason in reasons):
            outcome = Outcome()
        else:
            outcome = self._actions.act(self._state, self._containers, step, wanted)
        if not self._dry_run and outcome.plans is not None:
            self._keeper.accept(step)
        failed = outcome.failed(self._config.safety.min_coverage)
        self._guard.record(failed or any(reason.startswith("api:") for reason in reasons))
        self._reporter.decided(self._time_s, reasons, _left_out(plan), step, outcome)
        self._metrics.interval_s.observe(max(0.0, self._clock() - self._looked_s))

    def advance(self, seconds: float) -> Telemetry:
        """Sleep to the end of the interval, and measure.

        `time_s` counts control intervals: one that ends late is followed by a whole one.

        Raises:
            ValueError: not a positive time.
        """
        if seconds <= 0.0:
            raise ValueError(f"cannot advance by {seconds} s")
        self._must_be_started()
        self._next_s = max(self._next_s + seconds, self._clock())
        self._wait()
        self._looked_s = self._clock()
        self._time_s += seconds
        api_reasons = self._look()
        measurement = self._coordinator.measure([pod.name for pod in self._state.pods])
        self._telemetry_reasons = api_reasons + self._health.judge(measurement, self._state.pods)
        telemetry = self._telemetry(measurement, seconds)
        self._reporter.measured(telemetry, measurement, self._state, self._elector.leads, self._guard.frozen)
        return telemetry

    def _wait(self) -> None:
        """Sleep to the end of the interval; what the plan sends to containers that go meanwhile is spread."""
        while (left_s := self._next_s - self._clock()) > 0.0:
            self._sleep(min(left_s, self._config.safety.upkeep_s))
            if self._next_s - self._clock() > 0.0:
                self._uphold()

    def _uphold(self) -> None:
        import httpx2

        if self._dry_run or self._state.kill_switch or not self._elector.leads:
            return
        try:
            ready = self._observer.ready()
        except httpx2.HTTPError:
            return  # the next interval says so
        gone = [pod.name for pod in self._state.pods if pod.ready and pod.uid not in ready]
        if not gone or self._look() or self._state.kill_switch:
            return
        step = self._keeper.hold(self._containers.table())
        self._reporter.upheld(gone, self._actions.act(self._state, self._containers, step, {}))

    def snapshot(self) -> object:
        """Refused: the state of a live cluster cannot be saved.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a live cluster has no snapshots: its state is not this program's to save")

    def restore(self, snapshot: object) -> None:
        """Refused: a live cluster has no past.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a live cluster cannot go back in time")

    def close(self) -> None:
        """Leave the cluster as configured (`on_exit`), if this controller leads; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._started and not self._dry_run:
                self._leave()
        finally:
            self._elector.release()
            self._coordinator.close()
            self._client.close()

    def _leave(self) -> None:
        import httpx2

        if not self._elector.leads:
            self._reporter.stopped("not-leader", Outcome())
            return
        try:
            self._state = self._observer.observe()
        except httpx2.HTTPError as error:
            self._reporter.stopped("failed", Outcome(errors=[f"api: {error or type(error).__name__}"]))
            return
        if self._state.kill_switch:
            self._reporter.stopped("kill-switch", Outcome())
            return
        outcome = self._actions.leave(self._state)
        self._reporter.stopped("failed" if outcome.errors else self._config.on_exit, outcome)

    def _lead(self) -> None:
        import httpx2

        if self._dry_run or self._started:
            return
        try:
            self._elector.acquire(lambda: self._reporter.standby(self._elector.holder))
        except httpx2.HTTPError as error:
            where = f"lease in namespace {self._config.namespace!r}"
            raise ConfigError(f"{where}: {error}; check with: imbres-gym live doctor") from None
        self._state = self._first_look()

    def _first_look(self) -> ClusterState:
        import httpx2

        try:
            state = self._observer.observe()
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ConfigError(f"Kubernetes: {reason}; check with: imbres-gym live doctor") from None
        if found := problems(self._config, state):
            raise ConfigError("the application cannot be controlled as it is:\n" + "\n".join(f"  {p}" for p in found))
        return state

    def _look(self) -> tuple[str, ...]:
        """Bring the state up to date; reasons to hold where that fails, and then the last state counts on."""
        import httpx2

        try:
            state = self._observer.observe()
        except httpx2.HTTPError as error:
            return (f"api: {str(error) or type(error).__name__}",)
        missing = [name for name in self._info.microservices if name not in state.workloads]
        if missing:
            return (f"api: no Deployment of {', '.join(missing)}",)
        self._state = state
        self._containers = self._registry.number(state.pods, self._clock() - self._start_s)
        if state.kill_switch:
            self._keeper.forget(self._containers.table())
        else:
            self._keeper.follow(self._containers.table())
        return ()

    def _telemetry(self, measurement: Measurement, seconds: float) -> Telemetry:
        containers: Containers = self._containers
        wanted = np.array([self._state.workloads[name].replicas for name in self._info.microservices], np.int64)
        in_force = self._keeper.in_force(containers.table(), wanted)
        return self._builder.build(measurement, containers, in_force, self._time_s, seconds)

    def _replicas(self, plan: Plan) -> dict[str, int]:
        assert plan.replicas is not None
        return dict(zip(self._info.microservices, np.asarray(plan.replicas, np.int64).tolist(), strict=True))

    def _must_be_started(self) -> None:
        if not self._started:
            raise RuntimeError("the cluster has no episode yet; call reset first")


def _left_out(plan: Plan) -> list[str]:
    """Parts of a plan that a live cluster cannot follow."""
    parts = []
    if plan.balancer not in (None, Balancer.WEIGHTED):
        parts.append(f"balancer {plan.balancer}")
    if plan.placement is not None and np.any(plan.placement):
        parts.append("placement")
    return parts
