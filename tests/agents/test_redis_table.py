"""The shared table without any Redis: configuration, and going on in memory (with one: tests/testbed/redis_table)."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import make_info, make_observation

from agents import redis_table as module
from agents.controller import Controller
from agents.performance_table import PerformanceTable
from agents.redis_table import RedisTable
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

TIERS = {
    "load": {"policy": "agents.load.imbres:ImbresLoad"},
    "connections": {"policy": "agents.connections.imbres_grouping:GroupingConnections"},
    "scaling": {"policy": "agents.scaling.imbres:ImbresScaling"},
}


@pytest.fixture
def info() -> ClusterInfo:
    return make_info(microservices=2, hosts=2)


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def interval(info: ClusterInfo, step: int) -> Observation:
    load = np.array([[10.0, 20.0], [15.0, 5.0]]) * (1.0 + 0.3 * step)
    return make_observation(info, [[1, 2], [2, 1]], time_s=[5.0 * step], load_rps=load, own_p95_ms=load + step)


def answers(table: PerformanceTable) -> list[float]:
    queries = [(i, (level,) * 3, load) for i in (0, 1) for level in (0.1, 0.5) for load in (2.0, 9.0, 40.0)]
    return [float(table.latency_ms(*query)) for query in queries] + table.maximum_load_rps([0, 1]).tolist()


def test_a_table_without_redis_answers_as_one_in_memory(info: ClusterInfo, nobody: str) -> None:
    shared, alone = RedisTable(info, redis=nobody), PerformanceTable(info)
    for step in range(12):
        for table in (shared, alone):
            table.observe(interval(info, step))
    assert answers(shared) == answers(alone)
    assert min(answers(shared)) > 0.0


def test_a_redis_that_does_not_answer_is_not_asked_all_the_time(
    info: ClusterInfo, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    table = RedisTable(info, redis=nobody)
    tries: list[float] = []

    def ask() -> Any:
        tries.append(now_s[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(table, "_ask", ask)
    for _ in range(600):
        assert not table.exchange()
        now_s[0] += 0.5
    gaps = np.diff(tries)
    assert gaps[:5].tolist() == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert set(gaps[5:]) == {30.0}


def test_the_trouble_is_logged_once(info: ClusterInfo, nobody: str, caplog: pytest.LogCaptureFixture) -> None:
    table = RedisTable(info, redis=nobody)
    for _ in range(3):
        table._next_try_s = 0.0
        table.exchange()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "Redis does not answer, the performance table goes on in memory"
    ]


def test_samples_that_wait_are_bounded_by_what_still_matters(info: ClusterInfo, nobody: str) -> None:
    table = RedisTable(info, redis=nobody, rate=0.5)
    for value in range(1000):
        table.insert(0, (0.1,) * 3, 4.0, 1.0 + value)
    ((_, waiting),) = table._samples.items()
    assert 0.5 ** len(waiting) <= 1e-9 < 0.5 ** (len(waiting) - 2)


def test_an_agents_file_chooses_redis(info: ClusterInfo, nobody: str) -> None:
    agent = Controller(info, seed=1, **TIERS, table={"redis": nobody, "bins": 3})
    action, _ = agent.predict(interval(info, 1))
    assert action["replicas"].shape == (2,)
    assert isinstance(agent._tiers[0].table, RedisTable)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"redis": "localhost:6379"}, "table: redis: 'localhost:6379' is no address of Redis"),
        ({"redis": "redis://127.0.0.1:1", "bin": 4}, "table: bin: unknown option of RedisTable; did you mean 'bins'"),
        ({"redis": "redis://127.0.0.1:1", "rate": 0.0}, "table: rate: 0.0 must be in"),
        ({"redis": 7}, "table: redis: Input should be a valid string"),
    ],
)
def test_mistakes_are_named(info: ClusterInfo, table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Controller(info, seed=1, **TIERS, table=table)


@pytest.mark.parametrize(
    "change",
    [
        {"microservices": ("service-0", "service-2")},
        {"cores": np.array([0.1, 0.2])},
        {"memory_mb": np.array([200.0, 100.0])},
        {"pairs": ()},
    ],
)
def test_another_application_is_another_table(info: ClusterInfo, nobody: str, change: dict[str, Any]) -> None:
    mine = RedisTable(info, redis=nobody)._keys[:5]
    assert RedisTable(make_info(), redis=nobody)._keys[:5] == mine
    assert RedisTable(replace(info, **change), redis=nobody)._keys[0] != mine[0]


@pytest.mark.parametrize("option", [{"bins": 5}, {"rate": 0.2}, {"target": 0.6}])
def test_other_options_are_another_table(info: ClusterInfo, nobody: str, option: dict[str, Any]) -> None:
    assert RedisTable(info, redis=nobody)._keys[0] != RedisTable(info, redis=nobody, **option)._keys[0]
