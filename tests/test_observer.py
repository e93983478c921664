"""What an agent sees of requests over several intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imbres_gym.observer import Observer
from imbres_gym.scenario import load_scenario
from imbres_gym.sim.events import EventCluster


@pytest.mark.parametrize(
    ("intervals", "p95_ms"),
    [
        ([(19, 0)], 0.0),
        ([(20, 0)], 19.05),
        ([(10, 9)], 0.0),
        ([(10, 9), (1, 0)], 10_000.0),  # nine failures of 20 requests
    ],
)
def test_a_p95_of_fewer_than_twenty_requests_is_not_shown(intervals: list[tuple[int, int]], p95_ms: float) -> None:
    cluster = EventCluster(load_scenario("hotel-reservation/low-slack"))
    observer, telemetry = Observer(cluster.info), cluster.reset(1)
    classes = len(cluster.info.classes)
    for number, (good, failed) in enumerate(intervals, 1):
        telemetry = replace(
            telemetry,
            time_s=number * telemetry.interval_s,
            requests=np.full(classes, good + failed),
            failed=np.full(classes, failed),
            latencies_ms=tuple(np.arange(1.0, good + 1.0) for _ in range(classes)),
        )
        observation = observer.observe(telemetry)
    assert observation["window_p95_ms"].tolist() == pytest.approx([p95_ms] * classes)
