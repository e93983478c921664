"""The random scenarios that FIRM is trained in."""

from __future__ import annotations

import pytest

from agents.scaling.firm.scenes import INTERFERENCE, LOAD, MOST_RPS, random_scene
from imbres_gym.config import available
from imbres_gym.scenario import load_scenario
from imbres_gym.sim.interference import MovingInterference

EVALUATED = sorted({name.split("/")[0] for name in available("scenarios") if name.endswith("/high-strict")})
"""The applications that agents are compared on: not that of the test bed."""


@pytest.mark.parametrize("application", EVALUATED)
def test_scenes_are_scale_models_of_the_shipped_scenarios(application: str) -> None:
    usual = load_scenario(f"{application}/high-strict")
    rps = min(usual.workload.rate(0.0), MOST_RPS)
    slas = {load_scenario(f"{application}/high-{sla}").sla_ms for sla in ("strict", "slack")}
    seen, starts = set(), set()
    for seed in range(3000, 3010):
        scene = random_scene(application, seed, 1800.0)
        assert scene == random_scene(application, seed, 1800.0)
        assert scene.hosts == usual.hosts and scene.application == usual.application
        assert scene.max_replicas / usual.max_replicas == pytest.approx(rps / usual.workload.rate(0.0), rel=0.01)
        rates = {scene.workload.rate(t) for t in (0.0, 299.0, 300.0, 600.0)}
        assert len(rates) == 3 and all(LOAD[0] * rps <= rate <= LOAD[1] * rps for rate in rates)
        assert isinstance(scene.interference, MovingInterference)
        assert all(INTERFERENCE[0] <= level.cpu <= INTERFERENCE[1] for level in scene.interference.levels)
        seen.add(scene.sla_ms)
        starts.add(tuple(scene.replicas_at_start().values()))
    assert seen == slas
    assert len(starts) == 10
