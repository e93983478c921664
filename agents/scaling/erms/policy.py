"""Erms as a scaling policy: latency targets, containers and placement for every scaling interval."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agents.scaling.erms.placement import place_evenly
from agents.scaling.erms.priorities import (
    ClassLoad,
    Fleet,
    containers_prioritised,
    containers_shared,
    total_load,
)
from agents.scaling.profiled import ProfiledScaling
from imbres_gym.observation import Observation
from imbres_gym.profiling.profile import Profile
from imbres_gym.telemetry import ClusterInfo


class ErmsScaling(ProfiledScaling):
    """Erms (Luo et al., ASPLOS'23), on a profile of the application.

    At every scaling interval: models at the cluster's mean interference, latency targets that meet the SLA with the
    least resources, containers that meet the targets at the observed workload, and a placement that evens out the
    hosts. The entry microservice is treated like the others, while the artifact leaves it out and fixes its count.

    Args:
        profile, headroom: see `ProfiledScaling`.
        priorities: whether request classes that share a microservice are taken to be served by priority. Erms
            enforces priorities in the network (tc); in this simulator containers serve all classes alike, so by default
            Erms plans for that, as it does on a cluster without enforcement. With priorities it plans fewer
            containers, and the classes served first miss their targets.
        placement: whether Erms says where containers go; if not, the Kubernetes scheduler does.
    """

    def __init__(
        self, *, profile: str, headroom: float = 1.0, priorities: bool = False, placement: bool = True
    ) -> None:
        super().__init__(profile=profile, headroom=headroom)
        self._count = containers_prioritised if priorities else containers_shared
        self._places = placement

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Read the profile and start with the initial counts, placed as they are.

        Raises:
            ConfigError: there is no profile of this application, or it is damaged.
        """
        super().reset(info, seed)
        self._placement: NDArray[np.int64] | None = None

    @property
    def placement(self) -> NDArray[np.int64] | None:
        """(M, H) int64 wanted containers per host as of the last decision; None leaves it to the scheduler."""
        return self._placement

    def _prepare(self, profile: Profile) -> None:
        self._resource = dict(zip(self._info.microservices, (self._info.cores / self._info.host_cores), strict=True))

    def _plan(self, observation: Observation, rates: NDArray[np.float64]) -> Mapping[str, int]:
        C, M, *_ = observation["interference"].mean(axis=0, dtype=np.float64)
        pieces = {name: model.at(float(C), float(M)) for name, model in self._models.items()}
        classes = [
            ClassLoad(self._graphs[index].tree, self._calls_rps(index, float(rate)))
            for index, rate in enumerate(rates)
            if rate > 0.0
        ]
        counts = self._count(classes, Fleet(pieces, self._resource, self._info.sla_ms))
        if self._places:
            self._placement = self._place(observation, counts, total_load(classes))
        return counts

    def _place(
        self, observation: Observation, counts: Mapping[str, int], load_rps: Mapping[str, float]
    ) -> NDArray[np.int64]:
        info = self._info
        bounded = np.array([counts.get(name, 1) for name in info.microservices], np.int64)
        bounded = np.clip(bounded, info.min_replicas, info.max_replicas)
        use = [
            self._models[name].utilisation(load_rps.get(name, 0.0) / count)
            for name, count in zip(info.microservices, bounded, strict=True)
        ]
        # What containers use now is taken off their hosts: all of them are placed anew.
        table, usage = observation["containers"], observation["container_usage"]
        there = table[:, 0] >= 0
        cores = usage[there, 1] * info.cores[table[there, 1]]
        own = np.bincount(table[there, 2], cores, len(info.hosts)) / info.host_cores
        background = np.maximum(observation["interference"][:, 0] - own, 0.0)
        return place_evenly(bounded, np.clip(use, 0.0, 1.0) * info.cores, info.cores, background, info.host_cores)
