"""A synthetic microservice: any microservice of any application file, as one process of Python's standard library.

It reads the whole application (JSON, mounted from a ConfigMap) and plays one microservice of it: a request to
`/call/CLASS/NODE` runs that node of the class's call tree. It burns CPU in bursts, calls the children of each stage in
parallel through their Services, answers, and says how long it took in Prometheus histograms and OTLP spans. The rules
are the simulator's (docs/events.md): the demand of a call is Gamma distributed, spread evenly over the bursts between
its stages; what is outside its span is burnt after the answer; a store call is a wait.

CPU is burnt as a number of loops, calibrated at start on the thread's own CPU time, in slices of a millisecond that
take turns, as processor sharing does; a disturbed host therefore stretches it, as it stretches real work. What HTTP,
TCP and Python cost is measured all the time and taken off the demand, so that a call costs what the file says. One
thread runs all, so a container uses one core at most.

Environment: MICROSERVICE, APPLICATION_FILE, POD_NAME, NODE_NAME; OTLP_URL (no spans without it), TRACE_SAMPLING [0-1],
KEEP_ALIVE ("1": connections are kept and used again; else each call opens its own), DRAIN_S. Services are found by
Kubernetes' variables NAME_SERVICE_HOST, or else by name.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

PORT = 8080
BUCKETS_S = tuple(round(0.0005 * 1.15**i, 7) for i in range(72))
"""Upper bounds from 0.5 ms to 10 s; each is 15 % above the last, so that a quantile is wrong by 7 % at most."""
SLICE_MS = 1.0
DRAIN_S = 10.0
"""Time from SIGTERM until no connection is taken any more: two control intervals, so that plans can leave this pod."""
SPANS_EVERY_S = 1.0
MAX_SPANS = 5000
OWN_CALLS = 40
"""Calls to itself at start: a first guess of what a call costs besides its demand."""
LEARN_EVERY_S = 5.0
LEARN_FROM = 20
"""Calls, answered or made, that a measurement of their cost needs."""
LEARNT = 12
"""Measurements whose median is used: a minute."""
SPAN_HEADER = "x-span-ms"
"""Of an answer: duration of the span [ms]."""
REASONS = {
    200: "OK",
    404: "Not Found",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def spin(loops: int) -> None:
    """Use the CPU."""
    x = 1
    for _ in range(loops):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF


def loops_per_ms() -> float:
    """Loops that one millisecond of CPU holds when nothing disturbs: the best of many short runs."""
    loops, best = 2000, 0.0
    for _ in range(50):
        began = time.thread_time()
        spin(loops)
        best = max(best, loops / (1000.0 * (time.thread_time() - began)))
    return best


class Histogram:
    """A Prometheus histogram of one series."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total += seconds

    def lines(self, name: str, labels: str) -> list[str]:
        """In Prometheus' text format."""
        seen, lines = 0, []
        for bound, count in zip((*BUCKETS_S, "+Inf"), self.counts, strict=True):
            seen += count
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {seen}')
        return [*lines, f"{name}_sum{{{labels}}} {self.total:.9g}", f"{name}_count{{{labels}}} {seen}"]


class Metrics:
    """What `/metrics` shows."""

    def __init__(self, microservice: str) -> None:
        self.microservice = microservice
        self.own = Histogram()
        self.requests: dict[tuple[str, int], int] = defaultdict(int)
        self.e2e: dict[str, Histogram] = {}
        self.failures: dict[str, int] = {}
        self.gauges: dict[str, float] = {}
        self.lost_spans = 0

    def text(self) -> str:
        """All metrics in Prometheus' text format."""
        me = f'microservice="{self.microservice}"'
        lines = ["# TYPE imbres_own_latency_seconds histogram", *self.own.lines("imbres_own_latency_seconds", me)]
        lines.append("# TYPE imbres_requests_total counter")
        for (operation, code), count in self.requests.items():
            lines.append(f'imbres_requests_total{{{me},operation="{operation}",code="{code}"}} {count}')
        if self.e2e:
            lines.append("# TYPE imbres_e2e_latency_seconds histogram")
            for name, histogram in self.e2e.items():
                lines += histogram.lines("imbres_e2e_latency_seconds", f'request_class="{name}"')
            lines.append("# TYPE imbres_e2e_failures_total counter")
            lines += [f'imbres_e2e_failures_total{{request_class="{n}"}} {c}' for n, c in self.failures.items()]
        for name, value in self.gauges.items():
            lines += [f"# TYPE imbres_service_{name} gauge", f"imbres_service_{name}{{{me}}} {value:.6g}"]
        lines += ["# TYPE imbres_lost_spans_total counter", f"imbres_lost_spans_total{{{me}}} {self.lost_spans}"]
        return "\n".join(lines) + "\n"


@dataclass
class Call:
    """A node of a call tree."""

    number: int
    target: str
    operation: str
    repeat: int
    probability: float
    stages: list[list[Call]] = field(default_factory=list)


def parse_tree(tree: dict[str, Any], nodes: list[Call]) -> Call:
    """The calls of a tree, numbered depth first; all are appended to `nodes`."""
    target, _, operation = tree["call"].partition("/")
    call = Call(len(nodes), target, operation, tree["repeat"], tree["probability"])
    nodes.append(call)
    call.stages = [[parse_tree(child, nodes) for child in stage] for stage in tree["stages"]]
    return call


@dataclass(frozen=True)
class Trace:
    """Where a span belongs; `sampled` is decided at the entry for the whole trace."""

    trace_id: str
    span_id: str
    sampled: bool

    def header(self) -> str:
        """The W3C header `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def new_id(bits: int) -> str:
    """A random id of so many bits, in hexadecimal; never zero, which means none."""
    return f"{random.getrandbits(bits) or 1:0{bits // 4}x}"


def parse_traceparent(header: str | None) -> Trace | None:
    """The caller's span, if it sent one."""
    parts = (header or "").split("-")
    return Trace(parts[1], parts[2], parts[3] == "01") if len(parts) == 4 else None


class Spans:
    """Collects spans and sends them in batches; what cannot be sent is counted and lost."""

    def __init__(self, url: str, resource: dict[str, str], metrics: Metrics) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 4318
        self._path = parts.path if parts.path not in {"", "/"} else "/v1/traces"
        self._resource = {"attributes": [_attribute(key, value) for key, value in resource.items()]}
        self._waiting: deque[dict[str, Any]] = deque()
        self._metrics = metrics

    def add(self, trace: Trace, parent: str, name: str, kind: int, span_s: tuple[float, float], failed: bool) -> None:
        """Keep a span until the next batch; times are seconds since the epoch."""
        if len(self._waiting) >= MAX_SPANS:
            self._metrics.lost_spans += 1
            return
        began_s, ended_s = span_s
        span: dict[str, Any] = {"traceId": trace.trace_id, "spanId": trace.span_id, "name": name, "kind": kind}
        span |= {"startTimeUnixNano": str(int(began_s * 1e9)), "endTimeUnixNano": str(int(ended_s * 1e9))}
        if parent:
            span["parentSpanId"] = parent
        if failed:
            span["status"] = {"code": 2}
        self._waiting.append(span)

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await asyncio.sleep(SPANS_EVERY_S)
            await self.send()

    async def send(self) -> None:
        """Send what waits."""
        if not self._waiting or not self._host:
            return
        batch = list(self._waiting)
        self._waiting.clear()
        body = {"resourceSpans": [{"resource": self._resource, "scopeSpans": [{"scope": {}, "spans": batch}]}]}
        headers = {"Content-Type": "application/json"}
        try:
            connection = await asyncio.wait_for(asyncio.open_connection(self._host, self._port), 2.0)
            code, _ = await asyncio.wait_for(
                exchange(*connection, "POST", self._path, self._host, headers, json.dumps(body).encode()), 2.0
            )
            connection[1].close()
        except (TimeoutError, OSError, EOFError, ValueError):
            code = 0
        if code != 200:
            self._metrics.lost_spans += len(batch)


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


async def exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    host: str,
    headers: dict[str, str],
    body: bytes = b"",
) -> tuple[int, dict[str, str]]:
    """Send a request and read the whole answer; returns its status and headers."""
    head = {"Host": host, "Content-Length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in head.items())]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    status, answered = await read_head(reader)
    await reader.readexactly(int(answered.get("content-length", "0")))
    return int(status.split(" ")[1]), answered


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """First line and headers, with their names in lower case."""
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = text[:-4].split("\r\n")
    return first, {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


class Failed(Exception):
    """A call that did not succeed: its status code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Microservice:
    """One microservice of an application."""

    def __init__(self, name: str, config: dict[str, Any], environment: dict[str, str]) -> None:
        app = config["application"]
        self.name = name
        self.app = app
        self.config = config
        self.me = app["microservices"][name]
        self.trees: dict[str, list[Call]] = {}
        for request_class, request in app["request_classes"].items():
            parse_tree(request["tree"], self.trees.setdefault(request_class, []))
        self.metrics = Metrics(name)
        for operation in self.me["operations"]:
            self.metrics.requests[operation, 200] = 0  # a counter that starts at its first request has no rate then
        for request_class, nodes in self.trees.items():
            if nodes[0].target == name:
                self.metrics.e2e[request_class] = Histogram()
                self.metrics.failures[request_class] = 0
        self.pod = environment.get("POD_NAME", name)
        resource = {"service.name": name, "k8s.pod.name": self.pod, "k8s.node.name": environment.get("NODE_NAME", "")}
        self.spans = Spans(environment.get("OTLP_URL", ""), resource, self.metrics)
        self.sampling = float(environment.get("TRACE_SAMPLING", "0")) if environment.get("OTLP_URL") else 0.0
        self.keep_alive = environment.get("KEEP_ALIVE") == "1"
        self.addresses = {other: _address(other, environment) for other in app["microservices"]}
        self.workers = asyncio.Semaphore(self.me["workers"])
        self.waiting = 0
        self.draining = False
        self.idle: dict[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = defaultdict(list)
        self.background: set[asyncio.Task[None]] = set()
        self.loops_per_ms = loops_per_ms()
        self.burnt_s = 0.0
        self.messages = 0
        self.message_ms = 0.0
        self.costs_ms: deque[float] = deque(maxlen=LEARNT)
        self.metrics.gauges["loops_per_ms"] = self.loops_per_ms

    async def calibrate(self, port: int = PORT) -> None:
        """Guess what answering and calling cost, by calls to itself: half of such a call each."""
        costs = []
        for _ in range(OWN_CALLS):
            began = time.process_time()
            connection = await asyncio.open_connection("127.0.0.1", port)
            await exchange(
                *connection, "POST", "/healthz", "localhost", {"traceparent": Trace("0", "0", False).header()}
            )
            connection[1].close()
            await asyncio.sleep(0)
            costs.append(1000.0 * (time.process_time() - began))
        self.message_ms = sorted(costs)[len(costs) // 2] / 2.0
        self.metrics.gauges["overhead_ms"] = self.message_ms

    async def learn(self) -> None:
        """Measure for ever what a call, answered or made, costs besides the demand that is burnt."""
        used_s, burnt_s, messages = time.process_time(), self.burnt_s, self.messages
        while True:
            await asyncio.sleep(LEARN_EVERY_S)
            count = self.messages - messages
            if count < LEARN_FROM:
                continue
            other_s = time.process_time() - used_s - (self.burnt_s - burnt_s)
            self.costs_ms.append(1000.0 * other_s / count)
            self.message_ms = sorted(self.costs_ms)[len(self.costs_ms) // 2]
            self.metrics.gauges["overhead_ms"] = self.message_ms
            used_s, burnt_s, messages = time.process_time(), self.burnt_s, self.messages

    async def burn(self, cpu_ms: float) -> None:
        """Use the CPU for so many milliseconds of an undisturbed host, in turns with the other requests."""
        loops = int(cpu_ms * self.loops_per_ms)
        of_slice = int(SLICE_MS * self.loops_per_ms)
        while loops > 0:
            began = time.thread_time()
            spin(min(loops, of_slice))
            self.burnt_s += time.thread_time() - began
            loops -= of_slice
            await asyncio.sleep(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                first, headers = await read_head(reader)
                await reader.readexactly(int(headers.get("content-length", "0")))
                code, more, body = await self.answer(first.split(" ")[1], headers)
                last = self.draining or headers.get("connection", "").lower() == "close"
                more |= {"Content-Length": str(len(body)), **({"Connection": "close"} if last else {})}
                head = [f"HTTP/1.1 {code} {REASONS[code]}", *(f"{key}: {value}" for key, value in more.items())]
                writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
                await writer.drain()
                if last:
                    break
        except (EOFError, OSError, ValueError, IndexError, asyncio.LimitOverrunError):
            pass  # the client is gone, or it does not speak HTTP
        finally:
            writer.close()

    async def answer(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for one request."""
        if path == "/metrics":
            return 200, {"Content-Type": "text/plain; version=0.0.4"}, self.metrics.text().encode()
        if path == "/healthz":
            return 200, {}, b"ok"
        _, _, rest = path.partition("/call/")
        request_class, _, number = rest.rpartition("/")
        nodes = self.trees.get(unquote(request_class), [])
        if not number.isdigit() or int(number) >= len(nodes) or nodes[int(number)].target != self.name:
            return 404, {}, b"no such call of this microservice"
        code, took_s = await self.request(unquote(request_class), nodes[int(number)], headers)
        return code, {SPAN_HEADER: f"{1000.0 * took_s:.3f}", "X-Pod": self.pod}, b""

    async def request(self, request_class: str, call: Call, headers: dict[str, str]) -> tuple[int, float]:
        """Run one call of this microservice; returns its status and duration [s]."""
        wall, began = time.time(), time.perf_counter()
        caller = parse_traceparent(headers.get("traceparent"))
        if caller is None:
            caller = Trace(new_id(128), "", random.random() < self.sampling)
        trace = Trace(caller.trace_id, new_id(64), caller.sampled)
        is_entry = call.number == 0
        covered: list[tuple[float, float]] = []
        limit_s = self.app["request_classes"][request_class]["deadline_ms"] / 1000.0 if is_entry else None
        try:
            await asyncio.wait_for(self.run(request_class, call, trace, covered), limit_s)
            code = 200
        except Failed as failure:
            code = failure.code
        except TimeoutError:
            code = 504
        took = time.perf_counter() - began
        self.metrics.own.add(max(took - union(covered), 0.0))
        self.metrics.requests[call.operation, code] += 1
        if is_entry and code == 200:
            self.metrics.e2e[request_class].add(took)
        elif is_entry:
            self.metrics.failures[request_class] += 1
        if trace.sampled:
            self.spans.add(trace, caller.span_id, call.operation, 2, (wall, wall + took), code != 200)
        return code, took

    async def run(self, request_class: str, call: Call, trace: Trace, covered: list[tuple[float, float]]) -> None:
        """The bursts and stages of a call, as soon as a worker is free."""
        if self.workers.locked():
            if self.waiting >= self.me["accept_queue"]:
                raise Failed(503)
            self.waiting += 1
            try:
                await self.workers.acquire()
            finally:
                self.waiting -= 1
        else:
            await self.workers.acquire()
        try:
            operation = self.me["operations"][call.operation]
            shape = operation["demand_shape"] or self.config["demand_shape"]
            demand_ms = random.gammavariate(shape, operation["cpu_ms"] / shape)
            chosen = [[c for c in stage if random.random() < c.probability] for stage in call.stages]
            calls = sum(c.repeat for stage in chosen for c in stage if c.target in self.addresses)
            self.messages += 1 + calls
            in_span_ms = demand_ms * self.app["span_share"] - (1 + calls) * self.message_ms
            burst_ms = max(in_span_ms, 0.0) / (len(call.stages) + 1)
            await self.burn(burst_ms)
            for stage in chosen:
                await together([self.child(request_class, c, trace, covered) for c in stage])
                await self.burn(burst_ms)
        finally:
            self.workers.release()
        after_ms = demand_ms * (1.0 - self.app["span_share"])
        if after_ms > 0.0:
            task = asyncio.create_task(self.burn(after_ms))
            self.background.add(task)
            task.add_done_callback(self.background.discard)

    async def child(self, request_class: str, call: Call, trace: Trace, covered: list[tuple[float, float]]) -> None:
        """Make a call as often as the tree says, one after another."""
        for _ in range(call.repeat):
            if call.target in self.addresses:
                await self.downstream(request_class, call, trace, covered)
            else:
                await self.store(call, trace, covered)

    async def store(self, call: Call, trace: Trace, covered: list[tuple[float, float]]) -> None:
        """A call to a store: a wait."""
        wall, began = time.time(), time.perf_counter()
        store, shape = self.app["stores"][call.target], self.config["store_shape"]
        await asyncio.sleep(random.gammavariate(shape, store["operations"][call.operation] / 1000.0 / shape))
        if store["traced"]:
            took = time.perf_counter() - began
            covered.append((began, began + took))
            self.client_span(Trace(trace.trace_id, new_id(64), trace.sampled), trace, call, (wall, wall + took), False)

    async def downstream(
        self, request_class: str, call: Call, trace: Trace, covered: list[tuple[float, float]]
    ) -> None:
        """A call to a microservice; without client spans the way there and back is the caller's own time."""
        wall, began = time.time(), time.perf_counter()
        with_span = self.app["client_spans"]
        span = Trace(trace.trace_id, new_id(64), trace.sampled) if with_span else trace
        code, inside_s = 503, 0.0
        try:
            code, inside_s = await self.send(request_class, call, span)
        finally:
            took = time.perf_counter() - began
            way = 0.0 if with_span else max(took - inside_s, 0.0) / 2.0
            covered.append((began + way, began + took - way))
            if with_span:
                self.client_span(span, trace, call, (wall, wall + took), code != 200)
        if code != 200:
            raise Failed(code if code in REASONS else 500)

    def client_span(self, span: Trace, parent: Trace, call: Call, span_s: tuple[float, float], failed: bool) -> None:
        """Record the caller's view of a call."""
        if span.sampled:
            self.spans.add(span, parent.span_id, f"{call.target}/{call.operation}", 3, span_s, failed)

    async def send(self, request_class: str, call: Call, span: Trace) -> tuple[int, float]:
        """One request to a Service; returns its status, 503 if nobody answers, and the callee's own duration [s]."""
        path = f"/call/{quote(request_class, safe='')}/{call.number}"
        headers = {"traceparent": span.header(), **({} if self.keep_alive else {"Connection": "close"})}
        pool = self.idle[call.target]
        while True:
            kept = bool(pool)
            writer = None
            try:
                reader, writer = pool.pop() if kept else await asyncio.open_connection(*self.addresses[call.target])
                code, answered = await exchange(reader, writer, "POST", path, call.target, headers)
                if self.keep_alive and answered.get("connection") != "close":
                    pool.append((reader, writer))
                    writer = None
                return code, float(answered.get(SPAN_HEADER, "0")) / 1000.0
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
                if not kept:  # a kept connection may have ended meanwhile: the next one is tried
                    return 503, 0.0
            finally:
                if writer is not None:
                    writer.close()


def _address(name: str, environment: dict[str, str]) -> tuple[str, int]:
    variable = name.upper().replace("-", "_")
    return environment.get(f"{variable}_SERVICE_HOST", name), int(environment.get(f"{variable}_SERVICE_PORT", PORT))


async def together(calls: list[Awaitable[None]]) -> None:
    """Wait for all; the first failure counts, but only when all have ended."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def union(intervals: list[tuple[float, float]]) -> float:
    """Total length of intervals that may overlap."""
    total, end = 0.0, float("-inf")
    for begin, finish in sorted(intervals):
        total += max(finish - max(begin, end), 0.0)
        end = max(end, finish)
    return total


async def main() -> None:
    """Serve until SIGTERM, then let go gently."""
    with open(os.environ["APPLICATION_FILE"], encoding="utf-8") as file:
        config = json.load(file)
    service = Microservice(os.environ["MICROSERVICE"], config, dict(os.environ))
    server = await asyncio.start_server(service.serve, "0.0.0.0", PORT, backlog=service.me["accept_queue"])
    await service.calibrate()
    helpers = [asyncio.create_task(service.spans.run()), asyncio.create_task(service.learn())]
    print(
        f"{service.name}: {service.loops_per_ms:.0f} loops/ms, {service.message_ms:.3f} ms a message", file=sys.stderr
    )
    ended = asyncio.Event()
    on_signal: Callable[[], None] = ended.set
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    await ended.wait()
    service.draining = True
    await asyncio.sleep(float(os.environ.get("DRAIN_S", DRAIN_S)))
    server.close()
    for helper in helpers:
        helper.cancel()
    await service.spans.send()


if __name__ == "__main__":
    asyncio.run(main())
