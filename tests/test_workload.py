"""Workloads: the rate over time, its bounds, and what is refused."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from imbres_gym.config import ConfigError
from imbres_gym.sim.workload import ConstantWorkload, DiurnalWorkload, ReplayWorkload, Step, StepWorkload, Workload

rates = st.floats(min_value=0.0, max_value=1e6)
times = st.floats(min_value=0.0, max_value=1e6)
steps = st.lists(st.tuples(st.floats(min_value=0.01, max_value=1e4), rates), max_size=6)


@given(rates, times)
def test_constant(rps: float, time_s: float) -> None:
    assert ConstantWorkload(rps=rps).rate(time_s) == rps


def test_a_step_holds_from_its_time_on() -> None:
    workload = StepWorkload(steps=[Step(at_s=0, rps=10), Step(at_s=60, rps=30), Step(at_s=90, rps=0)])
    assert [workload.rate(t) for t in (0.0, 59.999, 60.0, 89.0, 90.0, 1e6)] == [10.0, 10.0, 30.0, 30.0, 0.0, 0.0]


@given(rates, steps, times)
def test_the_rate_is_always_one_of_the_steps(first: float, later: list[tuple[float, float]], time_s: float) -> None:
    ends, at_s = [Step(at_s=0, rps=first)], 0.0
    for gap, rps in later:
        at_s += gap
        ends.append(Step(at_s=at_s, rps=rps))
    workload = StepWorkload(steps=ends)
    assert workload.rate(time_s) in {step.rps for step in ends}
    assert [workload.rate(step.at_s) for step in ends] == [step.rps for step in ends]


@given(rates, rates, st.floats(min_value=1.0, max_value=1e5), st.floats(min_value=-1e4, max_value=1e4), times)
def test_diurnal_bounds_and_period(mean: float, amplitude: float, period: float, phase: float, time_s: float) -> None:
    workload = DiurnalWorkload(mean_rps=mean, amplitude_rps=amplitude, period_s=period, phase_s=phase)
    rate = workload.rate(time_s)
    assert max(0.0, mean - amplitude) - 1e-6 <= rate <= mean + amplitude + 1e-6
    # Sines of large angles lose digits.
    assert workload.rate(time_s + period) == pytest.approx(rate, abs=1e-4 * amplitude + 1e-9)


def test_diurnal_starts_where_the_phase_says_and_averages_to_the_mean() -> None:
    workload = DiurnalWorkload(mean_rps=800, amplitude_rps=400, period_s=3600, phase_s=-900)
    assert (workload.rate(0.0), workload.rate(900.0), workload.rate(1800.0)) == pytest.approx((400.0, 800.0, 1200.0))
    assert sum(workload.rate(t) for t in range(3600)) / 3600 == pytest.approx(800.0)


@given(st.lists(rates, min_size=1, max_size=20), st.floats(min_value=0.1, max_value=10.0), st.integers(0, 1000))
def test_replay_repeats_the_file(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], scale: float, index: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "rates.txt"
    file.write_text("# requests/s\n\n" + "\n".join(map(str, values)) + "\n", encoding="utf-8")
    workload = ReplayWorkload(file=file, step_s=2.0, scale=scale)
    assert workload.rate(2.0 * index) == values[index % len(values)] * scale
    assert workload.rate(2.0 * index + 1.9) == workload.rate(2.0 * index)


def test_a_replay_can_be_compared_and_sent_to_another_process(tmp_path: Path) -> None:
    file = tmp_path / "rates.txt"
    file.write_text("1\n2\n", encoding="utf-8")
    workload = ReplayWorkload(file=file)
    again = pickle.loads(pickle.dumps(workload))
    file.unlink()
    assert again == workload
    assert again.rate(1.0) == 2.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\nx\n", r":2: 'x' is not a number of requests/s"),
        ("1\n-2\n", r":2: '-2' must be a finite rate >= 0"),
        ("nan\n", r":1: 'nan' must be a finite rate >= 0"),
        ("inf\n", r":1: 'inf' must be a finite rate >= 0"),
        ("# only words\n", "no values; write one number"),
    ],
)
def test_a_recording_that_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "rates.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        ReplayWorkload(file=file)


def test_a_recording_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        ReplayWorkload(file=tmp_path / "none.txt")


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "constant", "rps": -1},
        {"kind": "constant", "rps": math.nan},
        {"kind": "step", "steps": []},
        {"kind": "step", "steps": [{"at_s": 1, "rps": 1}]},
        {"kind": "step", "steps": [{"at_s": 0, "rps": 1}, {"at_s": 9, "rps": 1}, {"at_s": 5, "rps": 1}]},
        {"kind": "step", "steps": [{"at_s": 0, "rps": 1}, {"at_s": 0, "rps": 2}]},
        {"kind": "diurnal", "mean_rps": 1, "amplitude_rps": 1, "period_s": 0},
        {"kind": "diurnal", "mean_rps": 1, "amplitude_rps": 1, "period_s": math.inf},
        {"kind": "burst", "rps": 1},
    ],
)
def test_what_is_refused(data: dict[str, Any]) -> None:
    adapter: TypeAdapter[Workload] = TypeAdapter(Workload)
    with pytest.raises((ValidationError, ConfigError)):
        adapter.validate_python(data)
