"""What the scalers that plan with an offline profile have in common: the profile, the workload, the clock."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.scaling.clock import IntervalClock
from agents.scaling.erms.fit import LatencyModel, fit_models
from imbres_gym.artifacts import find_artifact
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.profiling.graph import ClassGraph
from imbres_gym.profiling.profile import Profile, find_profile, load_profile
from imbres_gym.telemetry import ClusterInfo


class ProfiledScaling(ABC):
    """Counts containers anew from the workload of every scaling interval; in between the last count is repeated.

    The calls of each microservice follow from the mean rate of each request class over the interval. Without requests
    nothing changes.

    Args:
        profile: what `imbres-gym profile` has measured: a path, or a name in `configs/profiles/`.
        headroom: the workload that is planned for, as a multiple of the measured one, > 0. The papers have none; an
            operator whose SLA breaks would give some.

    Raises:
        ConfigError: `headroom` is not > 0.
    """

    def __init__(self, *, profile: str, headroom: float = 1.0) -> None:
        if not headroom > 0.0:
            raise ConfigError(f"headroom: {headroom} must be > 0")
        self._reference = profile
        self._headroom = headroom

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Read the profile and start with the initial counts.

        Raises:
            ConfigError: there is no profile of this application, or it is damaged.
        """
        profile = find_profile(self._reference, info.microservices)
        unknown = [name for name in info.classes if name not in profile.graphs]
        if unknown:
            raise ConfigError(f"profile: the one of {profile.application!r} has no request class {unknown[0]!r}")
        self._info = info
        self._graphs: list[ClassGraph] = [profile.graphs[name] for name in info.classes]
        path = find_artifact("profile", self._reference)
        models = _models_of(path, path.stat().st_mtime_ns, info.sla_ms)
        self._models: dict[str, LatencyModel] = dict(zip(info.microservices, models, strict=True))
        self._clock = IntervalClock(info.scaling_interval_s)
        self._wanted = info.initial_replicas.astype(np.int64)
        self._workload: list[NDArray[np.float32]] = []
        self._prepare(profile)

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        """(M,) int64 wanted containers, within the cluster's bounds."""
        self._workload.append(observation["workload_rps"])
        if self._clock.due(float(observation["time_s"][0])):
            rates = np.stack(self._workload).astype(np.float64).mean(axis=0)
            self._workload.clear()
            if rates.sum() > 0.0:
                counts = self._plan(observation, rates * self._headroom)
                wanted = [counts.get(name, self._info.min_replicas) for name in self._info.microservices]
                self._wanted = np.clip(np.array(wanted, np.int64), self._info.min_replicas, self._info.max_replicas)
        return self._wanted.copy()

    @abstractmethod
    def _prepare(self, profile: Profile) -> None:
        """Take from the profile and the cluster what is fixed for the episode."""

    @abstractmethod
    def _plan(self, observation: Observation, rates: NDArray[np.float64]) -> Mapping[str, int]:
        """Containers of every microservice that is called.

        Args:
            observation: the last of the interval.
            rates: (C,) end-user requests/s, mean over the interval; one at least is > 0.
        """

    def _calls_rps(self, index: int, rate: float) -> dict[str, float]:
        """Calls/s of each microservice that one request class makes at a rate."""
        return {name: calls * rate for name, calls in self._graphs[index].calls.items()}


@functools.lru_cache(maxsize=16)
def _models_of(path: Path, changed_ns: int, sla_ms: float) -> tuple[LatencyModel, ...]:
    """The models of a profile as the file was at `changed_ns`: a fit takes up to a second, and each episode asks."""
    return fit_models(load_profile(path), sla_ms)
