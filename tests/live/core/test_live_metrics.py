"""The journal, `/metrics` and `/healthz`."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from io import StringIO

import numpy as np
import pytest
from fake_clock import Clock
from live_bed import Bed

from imbres_gym.live.cluster import LiveCluster
from imbres_gym.live.journal import Journal
from imbres_gym.live.metrics import Heartbeat, LiveMetrics
from imbres_gym.live.metrics_server import MetricsServer
from imbres_gym.plan import Plan


@pytest.fixture
def metrics() -> LiveMetrics:
    return LiveMetrics()


@pytest.fixture
def server(metrics: LiveMetrics) -> Iterator[MetricsServer]:
    server = MetricsServer(0, metrics.registry, lambda: metrics.heartbeat.alive, "no control interval ended in time")
    yield server
    server.close()


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_what_happens_is_counted(
    bed: Bed, make_live: Callable[..., LiveCluster], metrics: LiveMetrics, server: MetricsServer
) -> None:
    cluster = make_live(metrics=metrics)
    cluster.reset(0)
    cluster.apply(Plan(proportions=np.array([[0.5, 0.25, 0.25]] * 3), replicas=np.array([3, 4, 3])))
    bed.prometheus.broken = (500, b"")
    cluster.advance(5.0)
    cluster.apply(Plan())
    status, text = get(server, "/metrics")
    assert status == 200
    for line in (
        'imbres_live_decisions_total{outcome="applied"} 1.0',
        'imbres_live_decisions_total{outcome="held"} 1.0',
        'imbres_live_holds_total{reason="unreachable"} 1.0',
        'imbres_live_scalings_total{direction="out",microservice="cart"} 1.0',
        'imbres_live_connection_plans_total{action="written"} 6.0',  # the new container is in the second plans
        'imbres_live_errors_total{source="prometheus"} 1.0',
        "imbres_live_leader 1.0",
        "imbres_live_sla_seconds 0.1",
        'imbres_live_replicas{microservice="cart"} 4.0',
    ):
        assert line in text.splitlines(), line


def test_health_is_a_recent_control_interval(metrics: LiveMetrics, server: MetricsServer, clock: Clock) -> None:
    metrics.heartbeat = Heartbeat(30.0, clock)
    assert get(server, "/healthz")[0] == 503  # before the first
    metrics.heartbeat.beat()
    assert get(server, "/healthz") == (200, "ok\n")
    clock.sleep(31.0)
    assert get(server, "/healthz")[0] == 503
    metrics.heartbeat.beat()
    assert get(server, "/healthz")[0] == 200
    assert get(server, "/other")[0] == 404


def test_a_line_is_one_json_object() -> None:
    text = StringIO()
    Journal([text]).write("test", number=np.float64(1.5), numbers=np.arange(2), text="two\nlines")
    (line,) = text.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["number"], event["numbers"], event["text"]) == ("test", 1.5, [0, 1], "two\nlines")
    assert event["time"].endswith("+00:00")


class Closed(StringIO):
    """A pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_closed_pipe_does_not_cost_the_file_its_line() -> None:
    file = StringIO()
    journal = Journal([Closed(), file])
    with pytest.raises(BrokenPipeError):
        journal.write("one")
    journal.write("two")
    assert [json.loads(line)["event"] for line in file.getvalue().splitlines()] == ["one", "two"]
