"""The performance table worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import make_info, make_observation

from agents.latency_store import FLOOR_MS
from agents.performance_table import PerformanceTable
from imbres_gym.config import ConfigError

CALM = (0.1, 0.1, 0.1)


def table_with_maximum_20() -> PerformanceTable:
    """One container at 10 requests/s and 25 % CPU: 20 requests/s at 50 %. Learns (interference 0.3, 10 rps, 20 ms)."""
    info = make_info(microservices=1, hosts=1)
    table = PerformanceTable(info)
    table.observe(make_observation(info, [[1]], load_rps=[[10.0]], cpu_utilisation=[[0.25]]))
    return table


def latency_at(interference: tuple[float, ...], known: dict[tuple[float, ...], float]) -> float:
    """Latency of a table that knows one load under some interferences."""
    table = PerformanceTable(make_info())
    table.insert(0, list(known), 4.0, list(known.values()))
    return float(table.latency_ms(0, interference, 4.0))


def test_maximum_load_is_the_load_at_half_the_quota() -> None:
    assert table_with_maximum_20().maximum_load_rps(0) == pytest.approx(20.0)


def test_another_target_moves_the_maximum_load() -> None:
    info = make_info(microservices=1, hosts=1)
    table = PerformanceTable(info, target=0.4)
    # 10 requests/s at 25 % CPU: 40 at full, 16 at 40 %.
    table.observe(make_observation(info, [[1]], load_rps=[[10.0]], cpu_utilisation=[[0.25]]))
    assert table.maximum_load_rps(0) == pytest.approx(16.0)
    with pytest.raises(ConfigError, match="target: 0"):
        PerformanceTable(info, target=0.0)


def test_maximum_load_comes_from_the_least_interfered_host() -> None:
    info = make_info(microservices=1)
    table = PerformanceTable(info)
    interference = [[0.7] * 4, [0.1] * 4]
    for load, cpu in (10.0, 0.2), (30.0, 0.6):
        table.observe(
            make_observation(
                info,
                [[1, 1]],
                time_s=[load],
                interference=interference,
                load_rps=[[10.0, load]],
                cpu_utilisation=[[0.9, cpu]],
            )
        )
    # (10 + 30) requests/s at 0.2 + 0.6: 50 requests/s at full, 25 at half the quota.
    assert table.maximum_load_rps(0) == pytest.approx(25.0)


def test_maximum_load_is_not_learnt_while_containers_come_and_go() -> None:
    info = make_info(microservices=1, hosts=1)
    table = PerformanceTable(info)
    # 40 requests/s at 25 % CPU in every interval; only the first and the last have the containers of the one before.
    intervals = [(4, 0), (4, 2), (6, 0), (3, 0), (3, 0)]
    for step, (ready, pending) in enumerate(intervals, start=1):
        table.observe(
            make_observation(
                info,
                [[ready]],
                time_s=[5.0 * step],
                pending=[[pending]],
                load_rps=[[40.0]],
                cpu_utilisation=[[0.25]],
            )
        )
    # 40 / 4 and 40 / 3 requests/s at 0.25 each: half the quota at (10 + 13.3) / 0.5 * 0.5.
    assert table.maximum_load_rps(0) == pytest.approx(40 / 4 + 40 / 3)


def test_between_two_loads_latency_is_interpolated() -> None:
    table = table_with_maximum_20()
    table.insert(0, CALM, 4.0, 10.0)
    table.insert(0, CALM, 12.0, 30.0)
    # 10 + (30 - 10) (6 - 4) / (12 - 4) = 15; the printed eq. (4) would give 5.
    assert table.latency_ms(0, CALM, 6.0) == pytest.approx(15.0)
    # A hit in the bin [10, 15) is interpolated as well: 10 + 20 * 7 / 8.
    assert table.latency_ms(0, CALM, 11.0) == pytest.approx(27.5)


def test_beyond_the_stored_loads_the_line_goes_on() -> None:
    table = table_with_maximum_20()
    table.insert(0, CALM, 4.0, 10.0)
    table.insert(0, CALM, 12.0, 30.0)
    # Slope 2.5 ms per request/s: at 16 it is 40, at 3 it is 7.5, at 0 it would be 0.
    assert table.latency_ms(0, CALM, 16.0) == pytest.approx(40.0)
    assert table.latency_ms(0, CALM, 3.0) == pytest.approx(7.5)
    assert table.latency_ms(0, CALM, 0.0) == FLOOR_MS


def test_one_known_load_alone_is_constant_and_none_is_zero() -> None:
    table = table_with_maximum_20()
    assert table.latency_ms(0, (0.3, 0.3, 0.3), 1.0) == table.latency_ms(0, (0.3, 0.3, 0.3), 19.0) == 20.0
    assert PerformanceTable(make_info()).latency_ms(1, CALM, 5.0) == 0.0


def test_a_bin_keeps_a_moving_mean() -> None:
    table = table_with_maximum_20()
    # Both loads are in the bin [10, 15): load 11 + 0.3 * (13 - 11) = 11.6, latency 30 + 0.3 * (40 - 30) = 33.
    table.insert(0, CALM, 11.0, 30.0)
    table.insert(0, CALM, 13.0, 40.0)
    # Another point, (1.6, 13), makes the line visible: 2 ms per request/s.
    table.insert(0, CALM, 1.6, 13.0)
    assert table.latency_ms(0, CALM, 11.6) == pytest.approx(33.0)
    assert table.latency_ms(0, CALM, 6.6) == pytest.approx(23.0)


@pytest.mark.parametrize(("utilisation", "same"), [(0.0, 0.19), (0.2, 0.39), (0.4, 0.59), (0.6, 0.8), (0.6, 0.95)])
def test_interference_bins_are_a_fifth_wide_and_end_at_80_per_cent(utilisation: float, same: float) -> None:
    table = table_with_maximum_20()
    for level, latency in (0.1, 1.0), (0.3, 2.0), (0.5, 3.0), (0.7, 4.0):
        table.insert(0, (level, 0.1, 0.1), 4.0, latency)
    at = [table.latency_ms(0, (u, 0.1, 0.1), 4.0) for u in (np.float32(utilisation), same)]
    assert at[0] == at[1] == float(int(utilisation / 0.2 + 1.01))


def test_an_unknown_interference_takes_the_closest() -> None:
    # Bins (0, 0, 0), (1, 1, 3) and (3, 3, 3) are 1.7, 2 and 3.5 away from (1, 1, 1).
    assert latency_at((0.3, 0.3, 0.3), {(0.1, 0.1, 0.1): 5.0, (0.3, 0.3, 0.7): 6.0, (0.7, 0.7, 0.7): 7.0}) == 5.0
    # Equally far: the more interfered, first in all, then in CPU.
    assert latency_at((0.3, 0.3, 0.3), {(0.1, 0.1, 0.1): 5.0, (0.5, 0.5, 0.5): 6.0}) == 6.0
    assert latency_at((0.3, 0.3, 0.3), {(0.5, 0.3, 0.3): 5.0, (0.3, 0.5, 0.3): 6.0}) == 5.0


def test_latency_never_falls_with_load() -> None:
    # Of (10, 8, 12) the first two are pooled: (9, 9, 12). Of (3, 2, 1) all.
    for latencies, pooled in ((10.0, 8.0, 12.0), (9.0, 9.0, 12.0)), ((3.0, 2.0, 1.0), (2.0, 2.0, 2.0)):
        loads = (2.0, 7.0, 12.0)
        table = table_with_maximum_20()
        table.insert(0, CALM, loads, latencies)
        assert table.latency_ms(0, CALM, loads) == pytest.approx(pooled)


def test_hosts_are_learnt_apart() -> None:
    info = make_info(microservices=1)
    table = PerformanceTable(info)
    observation = make_observation(
        info,
        [[2, 2]],
        interference=[[0.7] * 4, [0.1] * 4],
        load_rps=[[8.0, 20.0]],
        own_p95_ms=[[60.0, 15.0]],
        microservice_p95_ms=[50.0],
    )
    table.observe(observation)
    assert table.latency_ms(0, [0.7] * 4, 4.0) == pytest.approx(60.0)
    assert table.latency_ms(0, [0.1] * 4, 10.0) == pytest.approx(15.0)
    # The microservice as a whole: interference 0.4, load 28 / 4.
    assert table.latency_ms(0, [0.4] * 4, 7.0) == pytest.approx(50.0)


def test_on_a_single_host_an_interval_is_one_sample() -> None:
    info = make_info(microservices=1)
    table = PerformanceTable(info)
    for step, p95 in (1, 20.0), (2, 30.0):
        table.observe(
            make_observation(info, [[2, 0]], time_s=[5.0 * step], own_p95_ms=[[p95, 0.0]], microservice_p95_ms=[p95])
        )
    # 20 + 0.3 (30 - 20); learnt twice, as the host and as the microservice, it would be 25.1.
    assert table.latency_ms(0, [0.3] * 4, 10.0) == pytest.approx(23.0)


def test_an_interval_is_learnt_once() -> None:
    info = make_info(microservices=1, hosts=1)
    table = PerformanceTable(info)
    table.observe(make_observation(info, [[1]], microservice_p95_ms=[20.0], own_p95_ms=[[20.0]]))
    table.observe(make_observation(info, [[1]], microservice_p95_ms=[90.0], own_p95_ms=[[90.0]]))
    assert table.latency_ms(0, [0.3] * 4, 10.0) == pytest.approx(20.0)


def test_an_interval_without_samples_teaches_nothing() -> None:
    info = make_info(microservices=1, hosts=1)
    table = PerformanceTable(info)
    table.observe(make_observation(info, [[1]], samples=[[0]]))
    assert table.latency_ms(0, [0.3] * 4, 10.0) == 0.0


def test_load_bins_go_on_beyond_the_maximum() -> None:
    table = table_with_maximum_20()
    # Bins are 5 requests/s wide: 21 and 24 share one beyond the maximum of 20, 26 is in the next.
    table.insert(0, CALM, 21.0, 50.0)
    table.insert(0, CALM, 24.0, 60.0)
    table.insert(0, CALM, 26.0, 93.9)
    # Stored: (21.9, 53) and (26, 93.9); half way it is 73.45.
    assert table.latency_ms(0, CALM, 23.95) == pytest.approx(73.45)


def test_one_known_load_borrows_the_slope_of_the_closest_interference() -> None:
    table = table_with_maximum_20()
    for load, latency in (4.0, 10.0), (12.0, 30.0):
        table.insert(0, (0.5, 0.5, 0.5), load, latency)
    for load, latency in (4.0, 10.0), (12.0, 90.0):
        table.insert(0, (0.7, 0.7, 0.7), load, latency)
    # At interference 0.3 only (10, 20) is known; at 0.5 latency rises by 2.5 ms per request/s.
    assert table.latency_ms(0, (0.3, 0.3, 0.3), 10.0) == pytest.approx(20.0)
    assert table.latency_ms(0, (0.3, 0.3, 0.3), 14.0) == pytest.approx(30.0)
