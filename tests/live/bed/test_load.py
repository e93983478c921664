"""The load generator is open loop, repeatable, and counts latency from when a request was due."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from deploy_fake_api import FakeApi, serving, write_kubeconfig
from typer.testing import CliRunner

from imbres_gym.application import Application, load_application
from imbres_gym.cli import app
from imbres_gym.config import ConfigError
from imbres_gym.live import load, load_addresses, load_report
from imbres_gym.live.load import NO_ANSWER, NOT_SENT, Request, arrivals, classes, run_load

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
WAIT_S = 0.35


@pytest.fixture(scope="module")
def application() -> Application:
    return load_application("bed-chain")


def drive(application: Application, handler: Handler, rps: float, duration_s: float, seed: int = 1) -> list[Request]:
    """All requests that a server with this handler was sent, in the order of their end."""
    ended: list[Request] = []

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            try:
                await handler(reader, writer)
            finally:
                writer.close()

    async def main() -> None:
        server = await asyncio.start_server(closing, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await run_load(application, {"frontend": ("127.0.0.1", port)}, rps, duration_s, seed, ended.append)
        server.close()
        await asyncio.sleep(WAIT_S)  # what the client gave up, the server ends, too

    asyncio.run(main())
    return ended


def answering(code: int, after_s: float = 0.0) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(after_s)
        writer.write(f"HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n".encode())

    return handle


def test_arrivals_are_a_poisson_process_that_a_seed_repeats() -> None:
    times = arrivals(50.0, 200.0, seed=3)
    assert times == arrivals(50.0, 200.0, seed=3) != arrivals(50.0, 200.0, seed=4)
    assert times == sorted(times)
    assert times[-1] < 200.0
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert len(times) == pytest.approx(10_000, rel=0.04)  # four standard deviations
    assert variance / mean**2 == pytest.approx(1.0, rel=0.08)  # exponential gaps


def test_request_classes_come_by_their_shares(application: Application) -> None:
    drawn = Counter(classes(application, 10_000, seed=1))
    assert drawn["browse"] / 10_000 == pytest.approx(0.8, abs=0.016)


def test_requests_leave_when_they_are_due_whatever_the_server_does(application: Application) -> None:
    requests = drive(application, answering(200, after_s=0.5), rps=100.0, duration_s=0.5)
    assert len(requests) == len(arrivals(100.0, 0.5, 1))
    assert all(request.ok for request in requests)
    assert max(request.latency_ms for request in requests) < 900.0


def test_latency_counts_from_when_the_request_was_due(application: Application) -> None:
    blocked = False

    async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal blocked
        if not blocked:
            blocked = True
            time.sleep(0.3)  # the generator itself is held up, too, as it shares the thread
        await answering(200)(reader, writer)

    latencies = [request.latency_ms for request in drive(application, stalling, rps=100.0, duration_s=0.4)]
    assert sum(latency > 100.0 for latency in latencies) >= 5


def test_failures_have_their_code_and_what_gave_no_answer_has_none(application: Application) -> None:
    assert {request.code for request in drive(application, answering(503), 50.0, 0.2)} == {503}

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    assert {request.code for request in drive(application, silent, 50.0, 0.2)} == {NO_ANSWER}


def test_a_request_without_answer_ends_with_its_deadline(application: Application) -> None:
    quick = application.model_dump()
    for request_class in quick["request_classes"].values():
        request_class["deadline_ms"] = 50.0
    requests = drive(Application.model_validate(quick), answering(200, after_s=0.3), 50.0, 0.2)
    assert {request.code for request in requests} == {NO_ANSWER}
    assert max(request.latency_ms for request in requests) < 250.0


def test_what_would_be_too_many_at_once_is_said_and_not_sent(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "MAX_IN_FLIGHT", 3)
    requests = drive(application, answering(200, after_s=0.4), rps=100.0, duration_s=0.2)
    codes = Counter(request.code for request in requests)
    assert codes[200] == 3
    assert codes[NOT_SENT] == len(requests) - 3 > 0
    assert f"{codes[NOT_SENT]} not sent" in load_report.line(requests)


def test_a_failed_request_counts_as_the_slowest() -> None:
    requests = [Request(0.0, "get", 10.0, 200)] * 8 + [Request(0.0, "get", 1.0, 500)] * 2
    assert "10 requests,    2 failed, p50    10.0 ms  p95 10000.0 ms" in load_report.line(requests)


def test_the_summary_has_a_line_for_each_class_and_all() -> None:
    requests = [Request(0.0, "get", 10.0, 200), Request(1.0, "put", 20.0, 200)]
    lines = load_report.summary(requests, ["get", "put", "delete"])
    assert [line.split()[:2] for line in lines] == [["get", "1"], ["put", "1"], ["delete", "0"], ["all", "2"]]


def test_urls_name_the_microservice_or_are_refused(application: Application) -> None:
    found = load_addresses.from_url(application, "http://{microservice}.shop:8080")
    assert found == {"frontend": ("frontend.shop", 8080)}
    for url in ("https://x", "x:8080", "http://", "http://x:port"):
        with pytest.raises(ConfigError, match="--url"):
            load_addresses.from_url(application, url)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    with serving(fake):
        yield fake


def test_the_command_finds_the_entry_through_the_cluster_and_writes_every_request(api: FakeApi, tmp_path: Path) -> None:
    service = {"kind": "Service", "metadata": {"name": "frontend"}, "spec": {"clusterIP": "127.0.0.1"}}
    api.objects["/api/v1/namespaces/shop/services/frontend"] = service
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", api.url)
    words = ["load", "bed-chain", "--context", "bed", "--kubeconfig", str(kubeconfig), "--namespace", "shop"]
    out = tmp_path / "requests.csv"
    done = CliRunner().invoke(app, [*words, "--rps", "20", "--duration", "1s", "--seed", "5", "--out", str(out)])
    assert done.exit_code == 0, done.output
    expected = arrivals(20.0, 1.0, 5)
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["due_s"]) for row in rows] == pytest.approx(expected, abs=1e-6)
    assert f"all     {len(expected):6} requests, {len(expected):4} failed" in done.output


def test_a_service_that_is_not_there_is_said_so(api: FakeApi, tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", api.url)
    words = ["load", "bed-chain", "--context", "bed", "--kubeconfig", str(kubeconfig), "--rps", "1", "--duration", "1s"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "has no Service 'frontend'; deploy the application" in done.output


@pytest.mark.parametrize("where", [[], ["--context", "c", "--url", "http://x"]])
def test_the_place_is_said_exactly_once(where: list[str]) -> None:
    done = CliRunner().invoke(app, ["load", "bed-chain", "--rps", "1", "--duration", "1s", *where])
    assert done.exit_code == 2
    assert "either --context or --url" in done.output
