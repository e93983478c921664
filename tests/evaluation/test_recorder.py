from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import evaluation_fakes as fakes
import numpy as np
import pytest

from imbres_gym.cli.dashboard import Dashboard
from imbres_gym.evaluation import recorder as recorder_module
from imbres_gym.evaluation.episode import run_episode
from imbres_gym.evaluation.recorder import Recorder, class_percentiles, illegal_parts
from imbres_gym.percentiles import FAILED_MS
from imbres_gym.telemetry import Telemetry


class Failing(fakes.FakeCluster):
    """A tenth of the writes fail, the others are fast."""

    def _measure(self, replicas: int) -> Telemetry:
        latencies = (np.full(75, 20.0), np.full(90, 10.0))
        return replace(
            super()._measure(replicas), latencies_ms=latencies, requests=np.array([75, 100]), failed=np.array([0, 10])
        )


def test_curves_count_a_failed_request_as_slow_as_the_windows_do() -> None:
    env = Failing(fakes.scenario())
    env.reset(seed=1)
    recorder = Recorder(fakes.scenario())
    info = env.step(9)[4]
    recorder.add(env.telemetry, info, -1.0, {"total": 0.1})
    assert class_percentiles(env.telemetry, 95).tolist() == [20.0, FAILED_MS]
    assert recorder.series()["p95_ms"].tolist() == [[20.0, FAILED_MS]]
    assert recorder.series()["p50_ms"].tolist() == [[20.0, 10.0]]


def test_arrays_over_hosts_are_not_kept() -> None:
    """With 4,000 hosts they are half a gigabyte in each interval."""
    env = fakes.FakeCluster(fakes.scenario())
    env.reset(seed=1)
    info = env.step(9)[4]
    recorder = Recorder(fakes.scenario())
    telemetry = weakref.ref(recorder.add(replace(env.telemetry), info, -1.0, {"total": 0.1}).telemetry)
    assert telemetry() is None
    assert len(recorder.recording()) == 1


def test_illegal_actions_are_kept_per_interval() -> None:
    result = run_episode(fakes.task())
    assert set(result.series["illegal_actions"]) == {3}
    assert set(result.series["illegal/load"]) == {2} and set(result.series["illegal/replicas"]) == {1}
    steps = len(result.series["time_s"])
    assert illegal_parts(result.series) == (
        f"{3 * steps} parts of its actions were illegal (load {2 * steps}, replicas {steps})"
    )
    assert illegal_parts({**result.series, "illegal_actions": np.zeros(steps)}) == ""


def test_a_dashboard_can_be_drawn_while_it_takes_in_its_first_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Failing(fakes.scenario())
    env.reset(seed=1)
    info = env.step(9)[4]
    interval = Recorder(fakes.scenario()).add(env.telemetry, info, -1.0, {"total": 0.1})
    dashboard = Dashboard(fakes.task())

    def slow(*arguments: Any) -> Any:
        dashboard.render()
        return class_percentiles(*arguments)

    monkeypatch.setattr(recorder_module, "class_percentiles", slow)
    dashboard.update(interval)
    dashboard.render()
