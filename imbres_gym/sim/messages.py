"""Messages between containers: how long they take, compiled (`docs/event-engine.md`, rule 2)."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from imbres_gym.sim.compiled import inlined
from imbres_gym.sim.random import DELAYS, exponential


@inlined
def message_ms(program, state, world, called, caller):
    """Half a hop between the containers of two slots."""
    if program.hop_ms == 0.0:
        return 0.0
    one, other = state.slots[called], state.slots[caller]
    wait = max(world.network_wait[one.microservice, one.host], world.network_wait[other.microservice, other.host])
    mean = 0.5 * program.hop_ms * (1.0 + world.network_sensitivity[one.microservice] * wait)
    return exponential(state.streams, DELAYS, mean)
