"""An open-loop load generator: requests leave at the times of a Poisson process, whatever becomes of the earlier ones.

Latency counts from the time at which a request was due, not from when it could be sent, so that a slow cluster is not
flattered by requests that waited in the generator ("coordinated omission"). Every request opens its own connection.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from imbres_gym.application import Application

MAX_IN_FLIGHT = 2000
"""Requests at once; one more is not sent and counts as failed: two minutes of the bed's load (estimate)."""
PORT = 8080
NOT_SENT, NO_ANSWER = -1, 0
"""Codes of requests without an answer."""


@dataclass(frozen=True)
class Request:
    """One request, when all of it is known."""

    due_s: float
    """When it was due, since the start of the load [s]."""
    request_class: str
    latency_ms: float
    """From when it was due to the whole answer [ms]; to the failure if it failed."""
    code: int
    """HTTP status, `NO_ANSWER` or `NOT_SENT`."""

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.code == 200


def arrivals(rps: float, duration_s: float, seed: int) -> list[float]:
    """Times of a Poisson process [s]; the same for the same seed."""
    stream, times, now = random.Random(seed), list[float](), 0.0
    while (now := now + stream.expovariate(rps)) < duration_s:
        times.append(now)
    return times


def classes(application: Application, count: int, seed: int) -> list[str]:
    """A request class for each request, drawn by the classes' shares."""
    stream = random.Random(f"{seed} classes")
    shares = {name: request.share for name, request in application.request_classes.items()}
    return stream.choices(list(shares), list(shares.values()), k=count)


async def run_load(
    application: Application,
    hosts: Mapping[str, tuple[str, int]],
    rps: float,
    duration_s: float,
    seed: int,
    tell: Callable[[Request], None],
) -> None:
    """Send requests for `duration_s`, and wait for the answers that are due.

    Args:
        application: whose request classes are sent, by their shares.
        hosts: address and port of each entry microservice.
        rps: mean requests/s.
        duration_s: how long requests are sent [s].
        seed: of the times and classes.
        tell: given every request when it has ended.
    """
    times = arrivals(rps, duration_s, seed)
    began = time.perf_counter()
    running: set[asyncio.Task[None]] = set()

    async def one(due_s: float, request_class: str) -> None:
        request = application.request_classes[request_class]
        host, port = hosts[request.tree.target]
        code = await _send(host, port, request_class, request.deadline_ms / 1000.0)
        tell(Request(due_s, request_class, 1000.0 * (time.perf_counter() - began - due_s), code))

    for due_s, request_class in zip(times, classes(application, len(times), seed), strict=True):
        await asyncio.sleep(max(due_s - (time.perf_counter() - began), 0.0))
        if len(running) >= MAX_IN_FLIGHT:
            tell(Request(due_s, request_class, 0.0, NOT_SENT))
            continue
        task = asyncio.create_task(one(due_s, request_class))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.sleep(max(duration_s - (time.perf_counter() - began), 0.0))
    if running:
        await asyncio.wait(running)


async def _send(host: str, port: int, request_class: str, limit_s: float) -> int:
    """One HTTP request on a connection of its own; returns its status."""
    try:
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                path = f"/call/{quote(request_class, safe='')}/0"
                head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                answer = await reader.read()
            finally:
                writer.close()
            return int(answer.split(b" ", 2)[1])
    except (TimeoutError, OSError, ValueError, IndexError):
        return NO_ANSWER
