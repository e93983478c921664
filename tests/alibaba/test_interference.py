"""Generated hosts move as the machines of cluster-trace-v2018 do, and jump as those of Imbres Fig. 1.

What is known is of 14 machines in use over 8 days. It has to be a plausible draw: within four standard deviations of
what groups of 14 of our hosts show over 8 days.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from imbres_gym.alibaba.interference import host_levels, moving_interference
from imbres_gym.alibaba.statistics import utilisation_statistics
from imbres_gym.sim.interference import Level, MovingInterference

GROUPS, MACHINES, DAYS = 12, 14, 8
DEVIATIONS = 4.0

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def cpu() -> Floats:
    """(minutes, hosts) utilisation."""
    rng = np.random.default_rng(2000)
    n = 200
    return moving_interference(host_levels(n, rng)).path(n, DAYS * 1440, 60.0, rng)[:, :, 0]


def assert_plausible(cpu: Floats, measure: Callable[[Floats], float], known: float) -> None:
    """The median of `measure` over machines is what the median of a group of our busy hosts could be."""
    busy = cpu[:, cpu.mean(axis=0) > 0.1]
    each = np.array([measure(series) for series in busy.T[: GROUPS * MACHINES]])
    medians = np.median(each.reshape(GROUPS, MACHINES), axis=1)
    assert abs(known - medians.mean()) < DEVIATIONS * medians.std(ddof=1), (known, medians.mean(), medians.std(ddof=1))


def test_spread_between_hosts(cpu: Floats) -> None:
    known = utilisation_statistics()
    # The mean of 16 machines is known to 0.03, their deviation to 0.02.
    assert cpu.mean() == pytest.approx(known.mean, abs=0.03)
    assert cpu.mean(axis=0).std() == pytest.approx(known.deviation_between, abs=0.02)


def test_spread_within_a_host(cpu: Floats) -> None:
    assert_plausible(cpu, lambda series: float(series.std()), utilisation_statistics().deviation_within)


@pytest.mark.parametrize("lag", [1, 2, 5, 10, 20, 30, 60, 120, 240])
def test_autocorrelation_from_a_minute_to_hours(cpu: Floats, lag: int) -> None:
    known = utilisation_statistics().autocorrelation[lag]
    assert_plausible(cpu, lambda series: float(np.corrcoef(series[:-lag], series[lag:])[0, 1]), known)


def test_spread_within_an_hour_and_large_changes(cpu: Floats) -> None:
    known = utilisation_statistics()
    busy = cpu[:, cpu.mean(axis=0) > 0.1]
    hours = busy.reshape(-1, 60, busy.shape[1])
    # What is known differs between the machines by a tenth, and their large changes by a factor.
    assert np.median(hours.std(axis=1).mean(axis=0)) == pytest.approx(known.deviation_within_hour, rel=0.15)
    assert np.mean(np.abs(np.diff(cpu, axis=0)) > 0.3) == pytest.approx(known.large_changes, rel=0.2)


def test_interference_that_moves_does_so_by_default() -> None:
    levels = [Level(cpu=0.3, memory_bandwidth=0.3, network=0.3, llc=0.3)]
    assert MovingInterference(levels=levels) == moving_interference(np.array([0.3]))


def test_hosts_cover_10_to_80_percent_and_jump_across_it_within_a_minute() -> None:
    """Imbres section 2.1: about 500 hosts over an hour; here a day, so that a rare jump is seen."""
    rng = np.random.default_rng(2001)
    path = moving_interference(host_levels(500, rng)).path(500, 1440, 60.0, rng)[:, :, 0]
    hour = path[:60]
    assert hour.min() < 0.1
    assert hour.max() > 0.8
    assert np.any((path[:-1] < 0.15) & (path[1:] > 0.75))


def test_levels_are_a_stratified_sample() -> None:
    few, many = host_levels(10, np.random.default_rng(1)), host_levels(4000, np.random.default_rng(1))
    assert (len(few), len(many)) == (10, 200)
    assert few.mean() == pytest.approx(many.mean(), abs=0.02)
