"""The three tiers of an agent as protocols, and how names in configurations become objects.

A policy sees observations (see `imbres_gym.observation`) and the fixed `ClusterInfo`, nothing else. `envs` and
`imbres_gym.evaluation` reach policies through import paths, so that a third party's class is as good as ours.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.plan import ConnectionPlan
from imbres_gym.telemetry import ClusterInfo


class LoadPolicy(Protocol):
    """Decides load proportions every control interval.

    May have an attribute `balancer` (`imbres_gym.plan.Balancer`): who picks the container of each call; without one,
    what is in force stays.
    """

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """A new episode starts."""
        ...

    def propose(self, observation: Observation) -> NDArray[np.float64]:
        """(M, H) share of each microservice's load per host; rows sum to 1 over hosts with ready containers."""
        ...


class ConnectionPolicy(Protocol):
    """Decides the connection plan every control interval."""

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """A new episode starts."""
        ...

    def connect(self, observation: Observation, proportions: NDArray[np.float64]) -> ConnectionPlan:
        """The plan that makes downstream containers receive `proportions` (M, H)."""
        ...


class ScalingPolicy(Protocol):
    """Decides replica counts; asked every control interval, the environment acts on it every scaling interval.

    May have an attribute `placement`, valid after `scale`: (M, H) int64, wanted containers per host (see
    `imbres_gym.plan.Plan`), or None.
    """

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """A new episode starts."""
        ...

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        """(M,) wanted containers."""
        ...


def load_object(path: str, key: str = "policy") -> Any:
    """Import `module:name`.

    Raises:
        ConfigError: not of that form, no such module, or no such name in it.
    """
    module_name, _, name = path.partition(":")
    if not name:
        raise ConfigError(f"{key}: {path!r} is no import path; write module:Class")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{key}: {path!r}: {error}; is the package installed, or its folder on PYTHONPATH?") from None
    except ImportError as error:
        raise ConfigError(f"{key}: {path!r}: {error}") from error
    if not hasattr(module, name):
        raise ConfigError(f"{key}: {module_name!r} has no {name!r}")
    return getattr(module, name)
