"""What interference does to containers and messages at the moment (`docs/event-engine.md`, "Interference")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.application import Application, Sensitivity
from imbres_gym.sim.effects import Effects
from imbres_gym.sim.state import World

Floats = NDArray[np.float64]


def sensitivities(application: Application) -> dict[str, Floats]:
    """Kind of interference -> (M, 1) sensitivity of each microservice."""
    services = application.microservices.values()
    return {
        name: np.array([[getattr(service.sensitivity, name)] for service in services])
        for name in Sensitivity.model_fields
    }


def build_world(
    effects: Effects, sensitivity: dict[str, Floats], utilisation: Floats, anomaly: Floats | None = None
) -> World:
    """What interference does at a utilisation of the hosts.

    Args:
        effects: constants of the model.
        sensitivity: see `sensitivities`.
        utilisation: (H, 4), above 1 where a host is overloaded.
        anomaly: (M, H, 4) utilisation that containers of a microservice on a host suffer on top; None for none.
    """
    felt = utilisation[None] if anomaly is None else utilisation[None] + anomaly
    cpu, bandwidth, network, llc = np.moveaxis(np.minimum(felt, 1.0), 2, 0)  # (1 or M, H) each
    wait = 1.0 / (1.0 - np.minimum(network, effects.network_limit)) - 1.0
    shape = (len(sensitivity["cpu"]), len(utilisation))
    return World(
        stretch=1.0
        + effects.stretch_cpu * (sensitivity["cpu"] * cpu)
        + effects.stretch_memory_bandwidth * (sensitivity["memory_bandwidth"] * bandwidth)
        + effects.stretch_llc * (sensitivity["llc"] * llc),
        contention=np.minimum(1.0, sensitivity["cpu"] * cpu**effects.delay_exponent),
        delay_ms=effects.delay_ms,
        preemption_per_ms=effects.preemption_per_ms,
        network_wait=np.broadcast_to(wait, shape).copy(),
        network_sensitivity=sensitivity["network"][:, 0].copy(),
        speed=1.0 / np.maximum(1.0, utilisation[:, 0]),
    )
