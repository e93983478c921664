"""The random scenarios that FIRM is trained in."""

from __future__ import annotations

import pytest

from agents.scaling.firm.scenes import INTERFERENCE, LOAD, MOST_RPS, bases_of, random_scene
from imbres_gym.config import ConfigError, available
from imbres_gym.scenario import load_scenario
from imbres_gym.sim.interference import MovingInterference

EVALUATED = sorted({name.split("/")[0] for name in available("scenarios") if name.endswith("/high-strict")})
"""The applications that agents are compared on: not that of the test bed."""


@pytest.mark.parametrize("application", EVALUATED)
def test_scenes_are_scale_models_of_the_shipped_scenarios(application: str) -> None:
    usual = load_scenario(f"{application}/high-strict")
    rps = min(usual.workload.rate(0.0), MOST_RPS)
    slas = {load_scenario(f"{application}/high-{sla}").sla_ms for sla in ("strict", "slack")}
    bases = bases_of(usual)
    seen, starts = set(), set()
    for seed in range(3000, 3010):
        scene = random_scene(bases, seed, 1800.0)
        assert scene == random_scene(bases, seed, 1800.0)
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


def test_a_cluster_of_ones_own_is_its_own_scale_in_the_fluid_engine() -> None:
    """Nothing is shipped for it: its own SLA, and its whole workload, which the fluid engine can stand."""
    usual = load_scenario("social-network/high-strict", engine="fluid")
    assert {base.engine for base in bases_of(usual)} == {"fluid"} and len(bases_of(usual)) == 2
    mine = usual.model_copy(update={"application": usual.application.model_copy(update={"name": "mine"})})
    assert bases_of(mine) == (mine,)
    scene = random_scene(bases_of(mine), 3000, 600.0)
    assert (scene.engine, scene.sla_ms, scene.max_replicas) == ("fluid", mine.sla_ms, mine.max_replicas)
    assert scene.workload.rate(0.0) > MOST_RPS
    narrow = mine.hosts.model_copy(update={"count": 1, "cores": 8.0})
    start = random_scene([mine.model_copy(update={"hosts": narrow})], 3000, 600.0).replicas_at_start()
    wide = scene.replicas_at_start()
    cores = sum(mine.application.cores_of(name) * count for name, count in start.items())
    assert 0.8 * 8.0 < cores <= 8.0 and all(start[name] <= wide[name] for name in wide)
    with pytest.raises(ConfigError, match="workload: FIRM is trained at shares of a constant workload"):
        random_scene([scene], 3000, 600.0)
