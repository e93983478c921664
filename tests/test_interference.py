"""Interference: paths stay in range, repeat with their seed, and have the statistics that they are given."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from imbres_gym.sim.interference import (
    RESOURCES,
    ConstantInterference,
    Interference,
    Level,
    MovingInterference,
    ReplayInterference,
)

unit = st.floats(min_value=0.0, max_value=1.0)
level = st.builds(Level, cpu=unit, memory_bandwidth=unit, network=unit, llc=unit)
HALF = Level(cpu=0.5, memory_bandwidth=0.5, network=0.5, llc=0.5)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_constant_levels_repeat_over_the_hosts_and_hold() -> None:
    one, two = Level(cpu=0.1, network=0.3), Level(cpu=0.6, memory_bandwidth=0.2, llc=0.4)
    path = ConstantInterference(levels=[one, two]).path(3, 4, 1.0, rng())
    assert path.shape == (4, 3, len(RESOURCES))
    assert np.all(path == np.array([[0.1, 0.0, 0.3, 0.0], [0.6, 0.2, 0.0, 0.4], [0.1, 0.0, 0.3, 0.0]]))


moving = st.builds(
    lambda levels, phi, deviation, slow, rho, jumps, low, gap, length: MovingInterference(
        levels=levels,
        autocorrelation_per_minute=phi,
        deviation=deviation,
        slow_deviation=slow,
        correlation=rho,
        jumps_per_minute=jumps,
        jump=(low, min(low + gap, 1.0)),
        jump_duration_s=length,
    ),
    st.lists(level, min_size=1, max_size=3),
    st.floats(min_value=0.0, max_value=0.999),
    st.floats(min_value=0.0, max_value=0.5),
    st.floats(min_value=0.0, max_value=0.5),
    unit,
    unit,
    unit,
    unit,
    st.floats(min_value=0.1, max_value=1000.0),
)


@settings(max_examples=50)
@given(moving, st.integers(1, 5), st.integers(1, 40), st.floats(min_value=0.5, max_value=120.0), st.integers(0, 99))
def test_a_moving_path_stays_in_range_and_repeats_with_its_seed(
    process: MovingInterference, n_hosts: int, n_steps: int, step_s: float, seed: int
) -> None:
    path = process.path(n_hosts, n_steps, step_s, rng(seed))
    assert path.shape == (n_steps, n_hosts, len(RESOURCES))
    assert np.all((path >= 0.0) & (path <= 1.0))
    assert np.array_equal(path, process.path(n_hosts, n_steps, step_s, rng(seed)))
    idle = np.array([process.levels[host % len(process.levels)].as_row() for host in range(n_hosts)]) == 0.0
    assert np.all(path[:, idle] == 0.0)


@settings(max_examples=20)
@given(level, st.integers(1, 4), st.integers(1, 20))
def test_without_deviation_and_jumps_it_is_constant(where: Level, n_hosts: int, n_steps: int) -> None:
    still = MovingInterference(levels=[where], deviation=0.0, slow_deviation=0.0, jumps_per_minute=0.0)
    constant = ConstantInterference(levels=[where])
    assert np.array_equal(still.path(n_hosts, n_steps, 5.0, rng()), constant.path(n_hosts, n_steps, 5.0, rng()))


@pytest.mark.parametrize("step_s", [5.0, 60.0])
def test_the_wander_has_the_given_statistics(step_s: float) -> None:
    """400 hosts, far enough from 0 and 1 (five deviations) that nothing is cut off."""
    process = MovingInterference(levels=[HALF], deviation=0.09, slow_deviation=0.0, jumps_per_minute=0.0)
    path = process.path(400, 400, step_s, rng())
    lag = int(60 / step_s)
    assert path.mean() == pytest.approx(0.5, abs=0.005)
    assert path[0].std() == pytest.approx(0.09, rel=0.1)
    assert path.std() == pytest.approx(0.09, rel=0.03)
    for resource in range(len(RESOURCES)):
        assert correlation(path[:-lag, :, resource], path[lag:, :, resource]) == pytest.approx(0.712, abs=0.015)
    for other in (1, 2, 3):
        assert correlation(path[:, :, 0], path[:, :, other]) == pytest.approx(0.62, abs=0.03)
    assert correlation(path[:, :-1, 0], path[:, 1:, 0]) == pytest.approx(0.0, abs=0.1)


def test_fully_correlated_resources_move_together() -> None:
    path = MovingInterference(levels=[HALF], correlation=1.0).path(3, 50, 5.0, rng())
    assert np.allclose(path, path[:, :, :1])


def test_jumps_have_the_given_rate_size_and_duration() -> None:
    low = Level(cpu=0.1, memory_bandwidth=0.1)
    process = MovingInterference(
        levels=[low],
        deviation=0.0,
        slow_deviation=0.0,
        jumps_per_minute=0.01,
        jump=(0.3, 0.7),
        jump_duration_s=120.0,
    )
    n_hosts, n_steps, step_s = 500, 2000, 2.0
    path = process.path(n_hosts, n_steps, step_s, rng())
    added = path[:, :, 0] - 0.1
    starts = (added[1:] > 0.0) & (added[1:] != added[:-1])
    rate = starts.sum() / (n_hosts * (n_steps - 1) * step_s / 60.0)
    assert rate == pytest.approx(0.01, rel=0.1)
    sizes = added[1:][starts]
    assert sizes.min() >= 0.3 - 1e-9
    assert sizes.max() <= 0.7 + 1e-9
    assert sizes.mean() == pytest.approx(0.5, abs=0.02)
    assert (added > 0.0).sum() * step_s / starts.sum() == pytest.approx(120.0, rel=0.15)
    assert np.array_equal(path[:, :, 0], path[:, :, 1])
    assert np.all(path[:, :, 2:] == 0.0)


CSV = "time_s,host,cpu,network\n0,a,0.1,0.5\n10,b,0.3,0\n20,a,0.2,0.6\n30,b,0.9,1\n40,a,0.2,0.2\n"


def test_a_recording_holds_each_row_until_the_next_and_starts_again(tmp_path: Path) -> None:
    file = tmp_path / "hosts.csv"
    file.write_text(CSV, encoding="utf-8")
    process = ReplayInterference(file=file)
    path = process.path(3, 6, 10.0, rng())
    assert path[:, 0, 0].tolist() == [0.1, 0.1, 0.2, 0.2, 0.1, 0.1]
    assert path[:, 1, 0].tolist() == [0.3, 0.3, 0.3, 0.9, 0.3, 0.3]
    assert np.array_equal(path[:, 2], path[:, 0])
    assert path[:, 0, 2].tolist() == [0.5, 0.5, 0.6, 0.6, 0.5, 0.5]
    assert np.all(path[:, :, [1, 3]] == 0.0)
    assert process.levels[1].cpu == pytest.approx(0.6)
    assert pickle.loads(pickle.dumps(process)) == process


def test_one_row_is_a_constant_level(tmp_path: Path) -> None:
    file = tmp_path / "hosts.csv"
    file.write_text("time_s,host,cpu\n0,a,0.4\n", encoding="utf-8")
    assert np.all(ReplayInterference(file=file).path(2, 5, 60.0, rng())[:, :, 0] == 0.4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_s,host,cpu,netwrk\n", "unknown column 'netwrk'; did you mean 'network'"),
        ("time_s,cpu\n", "the column 'host' is missing"),
        ("time_s,host,cpu\n", "no rows"),
        ("time_s,host,cpu\n0,a,x\n", ":2: cpu: 'x' is not a number"),
        ("time_s,host,cpu\n0,a\n", ":2: cpu: None is not a number"),
        ("time_s,host,cpu\n0,a,0.5\n1,a,nan\n", ":3: cpu: 'nan' must be at least 0 and at most 1"),
        ("time_s,host,cpu\n0,a,50\n", ":2: cpu: '50' must be at least 0 and at most 1"),
        ("time_s,host,cpu\n-1,a,0\n", ":2: time_s: '-1' must be at least 0"),
        ("time_s,host,cpu\n5,a,0\n5,a,0\n", ":3: time_s: '5' is not after"),
    ],
)
def test_a_recording_that_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "hosts.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        ReplayInterference(file=file)


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "constant", "levels": []},
        {"kind": "constant", "levels": [{"cpu": 1.1}]},
        {"kind": "constant", "levels": [{"cpu": float("nan")}]},
        {"kind": "constant", "levels": [{"cpu": True}]},
        {"kind": "moving", "levels": [{"cpu": 0.3}], "jump": [0.5, 0.2]},
        {"kind": "moving", "levels": [{"cpu": 0.3}], "autocorrelation_per_minute": 1.0},
        {"kind": "replay"},
    ],
)
def test_what_is_refused(data: dict[str, Any]) -> None:
    adapter: TypeAdapter[Interference] = TypeAdapter(Interference)
    with pytest.raises(ValidationError):
        adapter.validate_python(data)


def test_without_a_slow_part_the_numbers_are_what_they_were() -> None:
    """Golden: from the version before there was a slow part."""
    where = Level(cpu=0.5, memory_bandwidth=0.4, network=0.3, llc=0.2)
    process = MovingInterference(
        levels=[where],
        autocorrelation_per_minute=0.79,
        deviation=0.13,
        slow_deviation=0.0,
        jumps_per_minute=0.5,
    )
    path = process.path(2, 3, 60.0, rng(1))
    assert path[:, :, 0].tolist() == [
        [0.5449259449684222, 0.6176962626675053],
        [0.5645493345021524, 1.0],
        [1.0, 0.5277315794062115],
    ]
    assert path[2, 1, 1:].tolist() == [0.4203251487006939, 0.34011974824873525, 0.346727174061971]


@pytest.mark.parametrize("step_s", [30.0, 60.0])
def test_the_slow_part_adds_to_the_wander(step_s: float) -> None:
    """Variance 0.06^2 + 0.06^2; after t minutes the correlation is (0.7^t + 0.99^t) / 2."""
    process = MovingInterference(
        levels=[HALF],
        deviation=0.06,
        autocorrelation_per_minute=0.7,
        slow_deviation=0.06,
        slow_autocorrelation_per_minute=0.99,
        jumps_per_minute=0.0,
    )
    path = process.path(400, 1000, step_s, rng())
    assert path.std() == pytest.approx(0.06 * 2**0.5, rel=0.03)
    for minutes in (1, 10, 60):
        lag = int(60 * minutes / step_s)
        expected = (0.7**minutes + 0.99**minutes) / 2
        assert correlation(path[:-lag, :, 0], path[lag:, :, 0]) == pytest.approx(expected, abs=0.03)
    for other in (1, 2, 3):
        assert correlation(path[:, :, 0], path[:, :, other]) == pytest.approx(0.62, abs=0.04)
