"""FIRM as a scaling policy: localise the critical microservices, resize them with the trained actor."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from agents.bundle import Bundle, load_bundle
from agents.network import Network
from agents.scaling.clock import IntervalClock
from agents.scaling.firm.localisation import Localiser
from agents.scaling.firm.resizing import SERVED, STATE_SIZE, Served, resized, slo_maintenance, states
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo


class FirmScaling:
    """FIRM (OSDI '20) on container counts; a decision at the end of every scaling interval.

    The support vector machine flags critical microservices from the traces of the interval, and the actor resizes all
    that are flagged. FIRM leaves open who gives back what is too much; here the actor is asked about the others too,
    but may only take containers away from them, and only where the requests that they serve meet the SLA.

    It needs traces: an agent's file sets `trace_sampling`.

    Args:
        bundle: a path (`*.zip`) or the name of a shipped bundle of kind "firm".

    Raises:
        ConfigError: the bundle is missing, damaged, or of another kind.
    """

    def __init__(self, *, bundle: str) -> None:
        self._bundle = load_bundle(bundle)
        self._localiser = Localiser.from_arrays(self._bundle.arrays)
        self._actor = _actor(self._bundle.networks.get("actor"))
        self._served = _served(self._bundle)

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Start with the initial counts.

        Raises:
            ConfigError: the bundle was trained for another application.
        """
        self._bundle.require(info, "firm")
        self._info = info
        self._clock = IntervalClock(info.scaling_interval_s)
        self._wanted = info.initial_replicas.astype(np.int64)
        self._previous_rps = 0.0

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        """(M,) int64 wanted containers, within the cluster's bounds."""
        if self._clock.due(float(observation["time_s"][0])):
            self._decide(observation)
        return self._wanted.copy()

    def _decide(self, observation: Observation) -> None:
        rps = float(observation["workload_rps"].sum())
        if rps > 0.0 and not observation["critical_path"].any():
            warnings.warn("FIRM sees no traces, so nothing is critical; set trace_sampling", stacklevel=2)
        seen = states(observation, self._previous_rps, self._info, self._served)
        actions = self._actor.forward(seen)[:, 0]
        self._previous_rps = rps
        chosen = self._localiser.critical(observation["critical_path"])
        chosen |= (actions < 0.0) & (slo_maintenance(observation, self._served) >= 1.0)
        bounds = (self._info.min_replicas, self._info.max_replicas)
        wanted = np.asarray(observation["wanted"], np.int64)
        self._wanted = np.where(chosen, resized(wanted, actions, bounds), wanted)


def _served(bundle: Bundle) -> Served:
    shape = (len(bundle.microservices), len(bundle.classes))
    served = bundle.arrays.get(SERVED)
    if served is None or served.shape != shape:
        raise ConfigError(f"bundle: it has no array {SERVED!r} of shape {shape}; train it again")
    return served.astype(bool)


def _actor(network: Network | None) -> Network:
    if network is None or (network.inputs, network.outputs) != (STATE_SIZE, 1):
        raise ConfigError(f"bundle: it has no network 'actor' of {STATE_SIZE} inputs and one output; train it again")
    return network
