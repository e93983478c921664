from __future__ import annotations

from dataclasses import replace

import evaluation_fakes as fakes
import numpy as np

from imbres_gym.evaluation.episode import run_episode
from imbres_gym.evaluation.recorder import Recorder, class_percentiles
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


def test_illegal_actions_are_kept_per_interval() -> None:
    result = run_episode(fakes.task())
    assert set(result.series["illegal_actions"]) == {3}
