"""The rules of docs/event-engine.md written naively in SimPy: a second opinion on the compiled engine.

It shares the configuration models with the engine and nothing else: no code, no random numbers. One process per
request, per call and per container; time is in ms. Start-up, scale-out and removal are not simulated.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from imbres_gym.application import Call, Operation, RequestClass
from imbres_gym.plan import balanced_proportions
from imbres_gym.scenario import Scenario
from oracles.simpy_container import Container, Host

TICK_MS = 1000.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Interval = tuple[float, float]
Process = Generator[simpy.Event, Any, Any]


@dataclass(frozen=True)
class OracleResult:
    """What was measured after the warm-up (M microservices, H hosts, C request classes).

    Attributes:
        own_ms: M arrays, own latency [ms] of the spans that ended, in the order in which they ended.
        e2e_ms: C arrays, E2E latency [ms] of the requests that ended without failure, in that order.
        requests, failed: (C,) int64 requests that ended; of them the failed ones.
        calls: (M, H) int64 calls that arrived at the containers.
        utilisation: (M, H) CPU use of the containers as a share of their quota [0-1].
        spans: spans that ended, those of the warm-up included.
    """

    own_ms: tuple[Floats, ...]
    e2e_ms: tuple[Floats, ...]
    requests: Ints
    failed: Ints
    calls: Ints
    utilisation: Floats
    spans: int


@dataclass
class _Request:
    """A request on its way."""

    deadline: float


@dataclass(frozen=True)
class _Answer:
    """The answer to a call.

    Attributes:
        ok: it succeeded.
        traced: interval [ms] that the trace shows of the call, if any.
        at_client: the caller recorded that interval.
    """

    ok: bool
    traced: Interval | None
    at_client: bool


class SimpyEngine:
    """One run of a scenario with fixed containers, proportions and connections."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        counts: Ints | None = None,
        proportions: Floats | None = None,
        rows: dict[tuple[int, int], Floats] | None = None,
        least_request: bool = False,
    ) -> None:
        """Place the containers.

        Args:
            scenario: what to simulate.
            seed: of all random numbers of the run.
            counts: (M, H) containers per host; the initial replicas in turn over the hosts if absent.
            proportions: (M, H) load proportions; balanced if absent.
            rows: (upstream, downstream) microservice -> (n_up, n_down) weights, containers numbered host by host;
                a pair that is absent is fully connected.
            least_request: each call goes to that of two random containers to which its caller has fewer calls in
                flight; weights and proportions do not matter then.
        """
        self.least_request = least_request
        self.in_flight: Counter[tuple[Container | None, Container]] = Counter()
        self.scenario, self.application = scenario, scenario.application
        self.names = self.application.microservice_names
        self.random = random.Random(seed)
        self.env = simpy.Environment()
        self.hosts = [Host(scenario.hosts.cores) for _ in range(scenario.hosts.count)]
        self.counts = _in_turn(scenario) if counts is None else counts
        self.proportions = balanced_proportions(self.counts) if proportions is None else proportions
        self.rows = rows or {}
        per_container = np.divide(self.proportions, self.counts, out=np.zeros(self.counts.shape), where=self.counts > 0)
        self.shares = [np.cumsum(np.repeat(per_container[m], self.counts[m])).tolist() for m in range(len(self.names))]
        self.row_shares = {pair: np.cumsum(rows, axis=1).tolist() for pair, rows in self.rows.items()}
        self.containers = [self._place(m) for m in range(len(self.names))]
        self._open_connections()

    def run(self, seconds: float, warmup_s: float = 0.0) -> OracleResult:
        """Simulate `warmup_s + seconds` and measure the last `seconds`."""
        end = 1000.0 * (warmup_s + seconds)
        steps = math.ceil(end / TICK_MS) + 1
        path_rng = np.random.default_rng(self.random.getrandbits(32))
        self.path = self.scenario.interference.path(len(self.hosts), steps, 1.0, path_rng)
        self._clear()
        self.spans = 0
        self.env.process(self._ticks())
        for index, request_class in enumerate(self.application.request_classes.values()):
            self.env.process(self._arrivals(index, request_class))
        if warmup_s > 0.0:
            self.env.run(until=1000.0 * warmup_s)
            self._clear()
        self.env.run(until=end)
        return self._result(1000.0 * seconds)

    # ---- containers and hosts

    def _place(self, m: int) -> list[Container]:
        """The containers of microservice `m`, host by host."""
        service, quota = self.application.microservices[self.names[m]], self.application.cores_of(self.names[m])
        effects = self.scenario.effects
        placed: list[Container] = []
        for host, count in zip(self.hosts, self.counts[m], strict=True):
            for _ in range(int(count)):
                phase = self.random.uniform(0.0, effects.period_ms)
                placed.append(Container(self.env, host, m, len(placed), service, quota, effects, phase))
                host.containers.append(placed[-1])
        return placed

    def _open_connections(self) -> None:
        """The connection factor of every container: n is the mean of its incoming and outgoing connections."""
        effects = self.scenario.effects
        connections = {id(c): 0.0 for of_service in self.containers for c in of_service}
        for up, down in self.application.pairs:
            shape = (len(self.containers[up]), len(self.containers[down]))
            is_open = self.rows.get((up, down), np.ones(shape)) > 0.0
            for i, container in enumerate(self.containers[up]):
                connections[id(container)] += is_open[i].sum() / 2.0
            for j, container in enumerate(self.containers[down]):
                connections[id(container)] += is_open[:, j].sum() / 2.0
        for of_service in self.containers:
            for container in of_service:
                share = connections[id(container)] / 500.0
                container.connection_factor = 1.0 + effects.connection_cost * share**effects.connection_exponent

    def _ticks(self) -> Process:
        """Bring interference and the hosts' own use up to date every second."""
        for utilisation in self.path:
            for host, row in zip(self.hosts, utilisation, strict=True):
                host.tick(row, TICK_MS)
            yield self.env.timeout(TICK_MS)

    # ---- requests

    def _arrivals(self, index: int, request_class: RequestClass) -> Process:
        """Poisson arrivals whose rate is constant within a tick, so a gap that crosses a tick is drawn anew there."""
        next_tick = TICK_MS
        while True:
            rate = request_class.share * self.scenario.workload.rate((next_tick - TICK_MS) / 1000.0) / 1000.0
            gap = self.random.expovariate(rate) if rate > 0.0 else math.inf
            if self.env.now + gap >= next_tick:
                yield self.env.timeout(next_tick - self.env.now)
                next_tick += TICK_MS
                continue
            yield self.env.timeout(gap)
            self.env.process(self._request(index, request_class))

    def _request(self, index: int, request_class: RequestClass) -> Process:
        sent = self.env.now
        request = _Request(deadline=sent + request_class.deadline_ms)
        answer: _Answer = yield self.env.process(self._call(request_class.tree, None, request))
        self.requests[index] += 1
        if answer.ok and self.env.now <= request.deadline:
            self.e2e[index].append(self.env.now - sent)
        else:
            self.failed[index] += 1

    def _call(self, node: Call, caller: Container | None, request: _Request) -> Process:
        """One call of a microservice, from sending to receiving; returns an `_Answer`."""
        m = self.names.index(node.target)
        container = self._choose(m, caller)
        self.in_flight[caller, container] += 1
        sent = self.env.now
        yield self._message(m, caller, container)
        container.calls += 1
        ok, server_span = False, None
        if not container.full():
            with container.workers.request() as worker:
                yield worker
                if self.env.now <= request.deadline:
                    started, ok = yield self.env.process(self._serve(m, node, container, request))
                    server_span = (started, self.env.now)
        yield self._message(m, caller, container)
        self.in_flight[caller, container] -= 1
        if self.application.client_spans:
            return _Answer(ok, (sent, self.env.now), at_client=True)
        return _Answer(ok, server_span, at_client=False)

    def _serve(self, m: int, node: Call, container: Container, request: _Request) -> Process:
        """A span: a burst before each stage and one at the end; returns its start and whether it succeeded.

        A stage in which no call is made does not interrupt: the bursts before and after it are one.
        """
        operation = self.application.microservices[node.target].operations[node.operation]
        mean = operation.cpu_ms * self.application.span_share / (len(node.stages) + 1)
        started, in_stages, ok = math.nan, 0.0, True
        stages, answers = list(node.stages), list[_Answer]()
        while True:
            demand, made = self._demand(container, operation, mean), list[Call]()
            while ok and stages and not made:
                made = [call for call in stages.pop(0) if self.random.random() < call.probability]
                demand += 0.0 if made else self._demand(container, operation, mean)
            wake_up, first_cpu = yield from self._burst(container, demand)
            started = first_cpu if math.isnan(started) else started
            if answers and answers[-1].at_client and answers[-1].traced is not None:
                in_stages += wake_up
            if not made:
                break
            answers = []
            yield self.env.all_of([self.env.process(self._repeat(call, container, request, answers)) for call in made])
            in_stages += _extent([answer.traced for answer in answers if answer.traced is not None])
            ok = all(answer.ok for answer in answers)
        self.own[m].append(self.env.now - started - in_stages)
        self.spans += 1
        if self.application.span_share < 1.0:
            rest = operation.cpu_ms * (1.0 - self.application.span_share)
            container.background(self._demand(container, operation, rest))
        return started, ok

    def _repeat(self, node: Call, caller: Container, request: _Request, answers: list[_Answer]) -> Process:
        """The repetitions of one call, one after another, until one call of the stage has failed."""
        for _ in range(node.repeat):
            if not all(answer.ok for answer in answers):
                return
            if node.target in self.application.stores:
                answer = yield from self._store(node)
            else:
                answer = yield self.env.process(self._call(node, caller, request))
            answers.append(answer)

    def _store(self, node: Call) -> Process:
        """A call of a store: a Gamma-distributed time, no queue."""
        store, sent = self.application.stores[node.target], self.env.now
        shape = self.scenario.effects.store_shape
        yield self.env.timeout(self.random.gammavariate(shape, store.operations[node.operation] / shape))
        return _Answer(True, (sent, self.env.now) if store.traced else None, at_client=True)

    def _burst(self, container: Container, demand: float) -> Process:
        """Scheduling delays, then CPU; returns the wake-up delay and when the thread ran first, preempted or not."""
        effects = self.scenario.effects
        container.lose(effects.wake_loss_ms)
        wake_up = preempted = 0.0
        busy = container.service.sensitivity.cpu * container.host.utilisation[0] ** effects.delay_exponent
        if self.random.random() < busy:
            wake_up = self._wait()
        if self.random.random() < 1.0 - math.exp(-min(busy, 1.0) * effects.preemption_per_ms * demand):
            preempted = self._wait()
        yield self.env.timeout(wake_up + preempted)
        burst = container.burst(demand)
        yield burst.done
        return wake_up, burst.began - preempted

    def _wait(self) -> float:
        """A wait for a CPU [ms]."""
        mean = self.scenario.effects.delay_ms
        return self.random.expovariate(1.0 / mean) if mean > 0.0 else 0.0

    def _demand(self, container: Container, operation: Operation, mean: float) -> float:
        """CPU demand [core-ms] of mean `mean` without interference."""
        effects, sensitivity = self.scenario.effects, container.service.sensitivity
        u_cpu, u_memory, _, u_llc = container.host.utilisation
        stretch = 1.0 + sensitivity.cpu * effects.stretch_cpu * u_cpu
        stretch += sensitivity.memory_bandwidth * effects.stretch_memory_bandwidth * u_memory
        stretch += sensitivity.llc * effects.stretch_llc * u_llc
        shape = operation.demand_shape or effects.demand_shape
        plain = self.random.gammavariate(shape, mean / shape)
        return plain * stretch * container.connection_factor

    # ---- the way to a container

    def _choose(self, m: int, caller: Container | None) -> Container:
        """A container by the caller's row of weights, or by the load proportions."""
        cumulative = self.shares[m]
        if caller is not None and (caller.microservice, m) in self.row_shares:
            row = self.row_shares[caller.microservice, m][caller.number]
            cumulative = row if row[-1] > 0.0 else cumulative
        if self.least_request:
            one, other = self.random.choices(self.containers[m], k=2)
            return other if self.in_flight[caller, other] < self.in_flight[caller, one] else one
        return self.random.choices(self.containers[m], cum_weights=cumulative)[0]

    def _message(self, m: int, caller: Container | None, container: Container) -> simpy.Event:
        """The way of one message between two containers, or between the end user and a container."""
        ends = [container.host] if caller is None else [caller.host, container.host]
        u = min(max(host.utilisation[2] for host in ends), self.scenario.effects.network_limit)
        slowed = container.service.sensitivity.network * (1.0 / (1.0 - u) - 1.0)
        mean = self.application.hop_ms / 2.0 * (1.0 + slowed)
        return self.env.timeout(self.random.expovariate(1.0 / mean) if mean > 0.0 else 0.0)

    # ---- measurement

    def _clear(self) -> None:
        n_classes = len(self.application.request_classes)
        self.own: list[list[float]] = [[] for _ in self.names]
        self.e2e: list[list[float]] = [[] for _ in range(n_classes)]
        self.requests, self.failed = np.zeros(n_classes, np.int64), np.zeros(n_classes, np.int64)
        for of_service in self.containers:
            for container in of_service:
                container.settle()
                container.calls, container.used_ms = 0, 0.0

    def _result(self, span_ms: float) -> OracleResult:
        shape = (len(self.names), len(self.hosts))
        calls, used, quota = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
        for m, of_service in enumerate(self.containers):
            for container in of_service:
                container.settle()
                h = self.hosts.index(container.host)
                calls[m, h] += container.calls
                used[m, h] += container.used_ms + container.service.idle_cores * span_ms
                quota[m, h] += container.quota_cores * span_ms
        return OracleResult(
            own_ms=tuple(np.array(values) for values in self.own),
            e2e_ms=tuple(np.array(values) for values in self.e2e),
            requests=self.requests,
            failed=self.failed,
            calls=calls,
            utilisation=np.divide(used, quota, out=np.zeros(shape), where=quota > 0.0),
            spans=self.spans,
        )


def simulate(
    scenario: Scenario,
    seconds: float,
    seed: int,
    warmup_s: float = 0.0,
    counts: Ints | None = None,
    proportions: Floats | None = None,
    rows: dict[tuple[int, int], Floats] | None = None,
    least_request: bool = False,
) -> OracleResult:
    """Run the oracle once; the arguments are those of `SimpyEngine` and of its `run`."""
    return SimpyEngine(scenario, seed, counts, proportions, rows, least_request).run(seconds, warmup_s)


def _in_turn(scenario: Scenario) -> Ints:
    """(M, H) initial replicas, given to the hosts in turn."""
    replicas = list(scenario.replicas_at_start().values())
    counts = np.zeros((len(replicas), scenario.hosts.count), np.int64)
    turn = 0
    for m, wanted in enumerate(replicas):
        for _ in range(wanted):
            counts[m, turn % scenario.hosts.count] += 1
            turn += 1
    return counts


def _extent(intervals: list[Interval]) -> float:
    """Time from the first start to the last end [ms]; 0 without intervals."""
    if not intervals:
        return 0.0
    return max(end for _, end in intervals) - min(start for start, _ in intervals)
