"""Learned tiers: policies that `imbres-gym train` has left in a bundle, evaluated with numpy.

In a controller `{policy: learned, bundle: PATH}` stands for the class of the tier here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.bundle import Bundle, load_bundle
from imbres_gym.config import ConfigError
from imbres_gym.flat import FLAT_KEYS, flatten_observation, proportions_of, replicas_at_targets
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo


class LearnedLoad:
    """Load proportions from a trained network: a weight per microservice and host, relative to balanced load.

    Args:
        bundle: path (`*.zip`) or name of a shipped bundle of kind "load".

    Raises:
        ConfigError: it is missing, damaged, of another kind or version.
    """

    def __init__(self, *, bundle: str) -> None:
        self._policy = BundledPolicy(bundle, "load")

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Take the cluster; nothing else to remember.

        Raises:
            ConfigError: the bundle was trained for another application or another number of hosts.
        """
        self._policy.reset(info, len(info.microservices) * len(info.hosts))

    def propose(self, observation: Observation) -> NDArray[np.float64]:
        """(M, H) float64 [0-1]; see `imbres_gym.flat.proportions_of`."""
        return proportions_of(self._policy.act(observation), observation).astype(np.float64)


class LearnedScaling:
    """Replica counts from a trained network: a target CPU utilisation per microservice.

    Args:
        bundle: path (`*.zip`) or name of a shipped bundle of kind "scaling".

    Raises:
        ConfigError: it is missing, damaged, of another kind or version.
    """

    def __init__(self, *, bundle: str) -> None:
        self._policy = BundledPolicy(bundle, "scaling")

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Take the cluster; nothing else to remember.

        Raises:
            ConfigError: the bundle was trained for another application or another number of hosts.
        """
        self._info = info
        self._policy.reset(info, len(info.microservices))

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        """(M,) int64; see `imbres_gym.flat.replicas_at_targets`."""
        return replicas_at_targets(self._policy.act(observation), observation, self._info)


class BundledPolicy:
    """The network of a bundle between a flat observation and actions in [-1, 1], as in training.

    Args:
        reference: path or name of the bundle.
        kind: what it must be of.

    Raises:
        ConfigError: it is missing, damaged, of another kind or version.
    """

    def __init__(self, reference: str, kind: str) -> None:
        self._bundle: Bundle = load_bundle(reference)
        self._kind = kind
        if self._bundle.kind != kind:
            raise ConfigError(f"bundle: {reference}: it is of kind {self._bundle.kind!r}, and {kind!r} is needed")
        keys = self._bundle.recipe.get("observation")
        if "actor" not in self._bundle.networks or not isinstance(keys, list) or not set(keys) <= set(FLAT_KEYS):
            raise ConfigError(f"bundle: {reference}: not written by imbres-gym train, or damaged; train it again")
        self._keys = tuple(keys)
        self._network = self._bundle.networks["actor"]

    def reset(self, info: ClusterInfo, actions: int) -> None:
        """Make sure that the bundle fits the cluster.

        Args:
            info: the cluster.
            actions: how many numbers the tier needs.

        Raises:
            ConfigError: it was trained for another application or another number of hosts.
        """
        self._bundle.require(info, self._kind, hosts=True)
        if self._network.outputs != actions:
            raise ConfigError(f"bundle: its network has {self._network.outputs} outputs, and {actions} are needed")
        self._info = info

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) float64 [-1, 1], without exploration noise."""
        inputs = flatten_observation(observation, self._info, self._keys)
        return np.clip(self._network.forward(inputs).astype(np.float64), -1.0, 1.0)
