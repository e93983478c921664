"""Own latency of single containers by the response surfaces, at given loads and interference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.application import Application
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.fluid import compose, levels, own, station, weather
from imbres_gym.sim.fluid.engine import Engine
from imbres_gym.sim.fluid.fleet import Fleet
from imbres_gym.sim.fluid.kinds import compile_kinds
from imbres_gym.sim.fluid.surfaces import WIDTH
from imbres_gym.sim.info import cluster_info
from imbres_gym.sim.interference import ConstantInterference, Level
from imbres_gym.sim.workload import ConstantWorkload

Floats = NDArray[np.float64]

PASSES = 2
"""The first finds how far apart the bursts of a call are; calls to other microservices count as their messages only."""

MINUTE_S = 60.0
"""How long a load lasts: beyond the quota, work piles up."""


def own_latency(
    application: Application, microservice: str, load_rps: Floats, interference: Floats
) -> tuple[Floats, Floats]:
    """Mean and p95 of the own latency of one container, (n,) each [ms].

    Args:
        application: says what the microservice does; its calls come in the application's mix.
        microservice: name.
        load_rps: (n,) calls/s of the container.
        interference: (n, 4) utilisation of its host by all that runs there, as in `Telemetry.interference` [0-1].
    """
    count = len(load_rps)
    scenario = Scenario(
        application=application,
        hosts=Hosts(count=count, cores=1e6, memory_mb=1e9),
        workload=ConstantWorkload(rps=0.0),
        interference=ConstantInterference(levels=[Level(cpu=0.0)]),
        sla_ms=1.0,
    )
    kinds = compile_kinds(scenario)
    model = Engine(scenario, cluster_info(scenario), kinds).model
    m = application.microservice_names.index(microservice)
    # One container of the microservice on each host; the other microservices have none.
    has = (np.arange(len(application.microservices)) == m) * count
    mine = kinds.microservice == m
    fleet = Fleet(
        begin=np.concatenate([[0], np.cumsum(has)]),
        slot=np.arange(count),
        id=np.arange(count),
        microservice=np.full(count, m),
        host=np.arange(count),
        place_of_id=np.arange(count),
        cell=np.arange(count),
        cell_place=m * count + np.arange(count),
        cell_host=np.arange(count),
        cell_begin=np.concatenate([[0], np.cumsum(has)]),
        kind_begin=np.concatenate([[0], np.cumsum(mine * count)]),
    )
    # The host's whole utilisation is given; nothing is slowed by sharing its cores.
    here = weather.new_weather(count, count)
    weather.feel(model.response, fleet, np.minimum(interference, 1.0), here)
    share = kinds.class_share @ kinds.visits * mine
    rates = (share[mine] / share.sum())[:, None] * load_rps[None, :]
    flat = rates.ravel()
    for _ in range(PASSES):
        stations = station.new_stations(count)
        station.gather(kinds, fleet, flat, stations)
        station.settle(model.limits, model.tables, fleet, np.ones(count), here, MINUTE_S, np.zeros(count), stations)
        losses, runs = np.zeros((flat.size, WIDTH), np.float32), np.zeros(flat.size, np.int64)
        station.look_up(kinds, model.limits, model.tables, fleet, stations, flat, losses, runs)
        times = compose.new_times(len(mine), len(kinds.child) - 1)
        compose.compose(kinds, fleet, stations, model.response, here, model.store_shape, flat, losses, runs, times)
        kinds = kinds._replace(groups=times.groups, second_ms2=times.second_ms2)
    moments, quantiles = np.zeros((count, 4)), np.zeros((count, own.N_LEVELS))
    own.own_latency(
        kinds,
        fleet,
        stations,
        model.response,
        here,
        model.tails,
        model.store_shape,
        flat,
        losses,
        runs,
        moments,
        quantiles,
    )
    # Work that piles up in a minute of overload delays what comes in the middle of it.
    late = 0.5 * stations.extra_to
    return moments[:, own.MEAN] + late, quantiles[:, levels.P95] + late
