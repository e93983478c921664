"""What interference does to containers and messages, as in `imbres_gym.sim.world`, compiled.

Only the pairs of microservice and host that have containers are looked at: on thousands of hosts they are few.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.application import Application
from imbres_gym.sim.effects import Effects
from imbres_gym.sim.fluid.compiled import kernel
from imbres_gym.sim.world import sensitivities

Floats = NDArray[np.float64]


class Response(NamedTuple):
    """Constants of `imbres_gym.sim.effects`, and the sensitivities of the microservices (M,)."""

    cpu: Floats
    memory_bandwidth: Floats
    network: Floats
    llc: Floats
    stretch_cpu: float
    stretch_memory_bandwidth: float
    stretch_llc: float
    delay_exponent: float
    delay_ms: float
    preemption_per_ms: float
    network_limit: float


class Weather(NamedTuple):
    """What interference does at the moment."""

    stretch: Floats  # (cells,) factor on CPU demand
    contention: Floats  # (cells,) chance that a thread that wakes up has to wait
    network_wait: Floats  # (cells,) by how much messages take longer, at sensitivity 1
    speed: Floats  # (H,) of a burst with a core of its own: below 1 on an overloaded host
    anomaly: Floats  # (cells, 4) utilisation that the containers suffer on top of their host's


def make_response(application: Application, effects: Effects) -> Response:
    """The constants of an application."""
    of_kind = {name: values[:, 0].copy() for name, values in sensitivities(application).items()}
    return Response(
        **of_kind,
        stretch_cpu=effects.stretch_cpu,
        stretch_memory_bandwidth=effects.stretch_memory_bandwidth,
        stretch_llc=effects.stretch_llc,
        delay_exponent=effects.delay_exponent,
        delay_ms=effects.delay_ms,
        preemption_per_ms=effects.preemption_per_ms,
        network_limit=effects.network_limit,
    )


def new_weather(cells: int, hosts: int) -> Weather:
    """No interference."""
    return Weather(np.ones(cells), np.zeros(cells), np.zeros(cells), np.ones(hosts), np.zeros((cells, 4)))


@kernel
def feel(response, fleet, utilisation, weather):
    """Bring the weather up to date with a utilisation (H, 4) of the hosts, above 1 where one is overloaded."""
    for h in range(len(utilisation)):
        weather.speed[h] = 1.0 / max(1.0, utilisation[h, 0])
    for m in range(len(fleet.cell_begin) - 1):
        for cell in range(fleet.cell_begin[m], fleet.cell_begin[m + 1]):
            host, more = utilisation[fleet.cell_host[cell]], weather.anomaly[cell]
            cpu, bandwidth = min(host[0] + more[0], 1.0), min(host[1] + more[1], 1.0)
            network, llc = min(host[2] + more[2], response.network_limit), min(host[3] + more[3], 1.0)
            weather.stretch[cell] = (
                1.0
                + response.stretch_cpu * (response.cpu[m] * cpu)
                + response.stretch_memory_bandwidth * (response.memory_bandwidth[m] * bandwidth)
                + response.stretch_llc * (response.llc[m] * llc)
            )
            weather.contention[cell] = min(1.0, response.cpu[m] * cpu**response.delay_exponent)
            weather.network_wait[cell] = 1.0 / (1.0 - network) - 1.0
