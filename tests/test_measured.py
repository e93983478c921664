from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imbres_gym.cluster import make_cluster
from imbres_gym.measured import new_measured, read, write
from imbres_gym.plan import Plan
from imbres_gym.scenario import load_scenario


@pytest.mark.parametrize("engine", ["events", "fluid"])
def test_telemetry_comes_back_as_it_was(engine: str) -> None:
    cluster = make_cluster(load_scenario("hotel-reservation/low-slack", engine=engine))
    measured = new_measured(cluster.info)
    telemetry = cluster.reset(1)
    for change in (2, 0):  # more containers, then fewer than the arrays have seen
        cluster.apply(Plan(replicas=cluster.info.initial_replicas + change))
        telemetry = cluster.advance(5.0)
        measured = write(telemetry, measured)
    in_order = tuple(np.sort(latencies) for latencies in telemetry.latencies_ms)
    assert read(measured) == replace(telemetry, latencies_ms=in_order)


def test_containers_without_room_are_left_out() -> None:
    cluster = make_cluster(load_scenario("hotel-reservation/low-slack", engine="fluid"))
    telemetry = cluster.reset(1)
    few = read(write(telemetry, new_measured(replace(cluster.info, max_containers=3))))
    assert few.container_id.tolist() == telemetry.container_id[:3].tolist()
    assert np.array_equal(few.ready, telemetry.ready)
