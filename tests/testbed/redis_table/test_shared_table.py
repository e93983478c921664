"""The shared performance table on a real Redis: several writers, restarts and wipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from redis_server import Server

from agents.performance_table import PerformanceTable
from agents.redis_table import RedisTable
from imbres_gym.telemetry import ClusterInfo

CALM = (0.1, 0.1, 0.1)
RATE = 0.3
WRITERS, SAMPLES = 4, 500


def make_info(microservices: int = 3) -> ClusterInfo:
    return ClusterInfo(
        microservices=tuple(f"service-{i}" for i in range(microservices)),
        hosts=("host-0", "host-1"),
        classes=("read",),
        pairs=tuple((i, i + 1) for i in range(microservices - 1)),
        entries=(0,),
        called=(tuple(range(microservices)),),
        cores=np.full(microservices, 0.1),
        memory_mb=np.full(microservices, 200.0),
        host_cores=100.0,
        sla_ms=100.0,
        control_interval_s=5.0,
        scaling_interval_s=60.0,
        min_replicas=1,
        max_replicas=50,
        max_containers=400,
        connections_per_container=10,
        startup_s=5.0,
        initial_replicas=np.full(microservices, 4, np.int64),
    )


INFO = make_info()


def table(server: Server) -> RedisTable:
    return RedisTable(INFO, redis=server.url)


def teach(one: PerformanceTable, *latencies_ms: float, microservice: int = 0, load_rps: float = 4.0) -> None:
    for latency_ms in latencies_ms:
        one.insert(microservice, CALM, load_rps, latency_ms)


def known(one: PerformanceTable, microservice: int = 0, load_rps: float = 4.0) -> float:
    return float(one.latency_ms(microservice, CALM, load_rps))


def exchange(*tables: RedisTable) -> None:
    for one in tables:
        one._next_try_s = 0.0  # the wait after a failure is over
        assert one.exchange()


def moving_mean(values: list[float]) -> float:
    mean = values[0]
    for value in values[1:]:
        mean += RATE * (value - mean)
    return mean


def test_what_one_learns_the_other_knows(server: Server) -> None:
    first, second = table(server), table(server)
    teach(first, 20.0, 30.0)
    exchange(first, second)
    assert known(second) == known(first) == pytest.approx(moving_mean([20.0, 30.0]), rel=1e-12)
    teach(second, 50.0)
    exchange(second, first)
    assert known(first) == known(second) == pytest.approx(moving_mean([20.0, 30.0, 50.0]), rel=1e-12)


def test_a_table_learns_as_one_in_memory(server: Server) -> None:
    shared, alone = table(server), PerformanceTable(INFO)
    rng = np.random.default_rng(3)
    for _ in range(30):
        i, load = rng.integers(0, 3, 20), rng.uniform(0.0, 50.0, 20)
        interference, tail = rng.uniform(0.0, 1.0, (20, 3)), rng.uniform(1.0, 100.0, 20)
        for one in (shared, alone):
            one.insert(i, interference, load, tail)
            one._add_use(np.array([0, 2]), load[:2], interference[:2, 0])
        exchange(shared)
    fresh = table(server)
    exchange(fresh)
    queries = np.arange(3).repeat(40), rng.uniform(0.0, 1.0, (120, 3)), rng.uniform(0.0, 60.0, 120)
    expected = alone.latency_ms(*queries)
    assert shared.latency_ms(*queries) == pytest.approx(expected, rel=1e-9)
    assert fresh.latency_ms(*queries) == pytest.approx(expected, rel=1e-9)
    assert fresh.maximum_load_rps([0, 1, 2]) == pytest.approx(alone.maximum_load_rps([0, 1, 2]), rel=1e-12)


WRITER = """
import sys
import numpy as np
from test_shared_table import INFO, SAMPLES, RedisTable, teach
number = int(sys.argv[2])
table = RedisTable(INFO, redis=sys.argv[1])
for k in range(SAMPLES):
    teach(table, float(k % 97 + 1), microservice=1, load_rps=10.0 + number)  # all writers the same bin
    teach(table, 10.0 * number + 1.0, microservice=2, load_rps=100.0 * number)
    table._add_use(np.array([0]), np.array([1.0]), np.array([0.25]))
    if k % 3 == number % 3:
        assert table.exchange()
assert table.exchange()
"""


def test_four_writers_at_once_lose_nothing(server: Server, tmp_path: Path) -> None:
    with server.client() as client:
        client.config_resetstat()
        words = [sys.executable, "-c", WRITER, server.url]
        here = str(Path(__file__).resolve().parent)
        environment = {"PYTHONPATH": f"{Path.cwd()}:{here}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        writers = [subprocess.Popen([*words, str(number)], env=environment) for number in range(WRITERS)]
        assert [writer.wait(timeout=120.0) for writer in writers] == [0] * WRITERS
        reader = table(server)
        exchange(reader)
        # Redis numbers every change of an entry: as many as there were samples.
        version = int(cast(str, client.hget(reader._keys[0], "version")))
    assert version == WRITERS * SAMPLES * 2
    # Sums are exact: 0.5 * load / cpu, and no addend is missing.
    assert reader._load_seen[0] == WRITERS * SAMPLES
    assert reader._cpu_seen[0] == WRITERS * SAMPLES * 0.25
    # The bin of all writers is a mean of what they wrote.
    assert 1.0 < known(reader, microservice=1, load_rps=11.5) < 97.0


def test_writers_that_take_turns_make_the_mean_of_one(server: Server) -> None:
    tables = [table(server) for _ in range(3)]
    values = [float(value) for value in np.random.default_rng(1).uniform(5.0, 50.0, 60)]
    for k, value in enumerate(values):
        teach(tables[k % 3], value)
        exchange(tables[k % 3])
    exchange(*tables)
    assert [known(one) for one in tables] == pytest.approx([moving_mean(values)] * 3, rel=1e-9)


def test_a_restart_with_its_data_goes_on(server: Server) -> None:
    writer = table(server)
    teach(writer, 20.0)
    exchange(writer)
    server.stop()
    teach(writer, 40.0)
    assert not writer.exchange()
    assert known(writer) == pytest.approx(moving_mean([20.0, 40.0]))
    server.start()
    exchange(writer)
    reader = table(server)
    exchange(reader)
    assert known(reader) == known(writer) == pytest.approx(moving_mean([20.0, 40.0]), rel=1e-12)


@pytest.mark.parametrize("how", ["flushed", "restarted without data"])
def test_a_wiped_redis_gets_back_what_was_known(server: Server, how: str) -> None:
    first, second = table(server), table(server)
    teach(first, 20.0, 30.0)
    first._add_use(np.array([0]), np.array([10.0]), np.array([0.25]))
    teach(second, 7.0, microservice=1)
    exchange(first, second, first)
    if how == "flushed":
        with server.client() as client:
            client.flushall()
    else:
        server.stop()
        server.start(keep=False)
    teach(first, 40.0)
    first._add_use(np.array([0]), np.array([10.0]), np.array([0.25]))
    teach(second, 50.0)
    exchange(second, first, second)
    reader = table(server)
    exchange(reader)
    # What both knew is there once; what each had learnt since came on top, in the order of arrival.
    for one in (first, second, reader):
        assert known(one) == pytest.approx(moving_mean([20.0, 30.0, 50.0, 40.0]), rel=1e-12)
        assert known(one, microservice=1) == pytest.approx(7.0)
        assert float(one.maximum_load_rps(0)) == pytest.approx(20.0, rel=1e-12)


def test_a_batch_whose_answer_was_lost_is_not_taken_twice(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = table(server)
    teach(writer, 20.0)
    exchange(writer)
    ask = writer._ask

    def lose_the_answer() -> object:
        ask()
        raise ConnectionResetError("the answer is lost")

    teach(writer, 40.0)
    monkeypatch.setattr(writer, "_ask", lose_the_answer)
    assert not writer.exchange()
    monkeypatch.setattr(writer, "_ask", ask)
    teach(writer, 60.0)
    exchange(writer)
    assert known(writer) == pytest.approx(moving_mean([20.0, 40.0, 60.0]), rel=1e-12)


def test_an_exchange_is_short_and_fetches_only_changes(server: Server) -> None:
    writer, reader = table(server), table(server)
    rng = np.random.default_rng(0)
    writer.insert(rng.integers(0, 3, 3000), rng.uniform(0.0, 0.8, (3000, 3)), rng.uniform(1.0, 50.0, 3000), 10.0)
    exchange(writer, reader)
    teach(writer, 20.0)
    exchange(writer)
    reader._batch = reader._new_batch()
    _, _, changed, _, _ = reader._ask()
    assert len(changed) == 2
