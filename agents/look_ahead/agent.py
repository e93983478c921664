"""Imbres' load shifting and groups, with replica counts that are tried in a model of the cluster first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.controller import Controller, Tiers
from agents.look_ahead.model import Model
from agents.look_ahead.search import search_replicas
from agents.scaling.clock import IntervalClock
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import ClusterInfo

CORRECTION_LIMITS = (0.5, 2.0)
"""Bounds of how much larger a measured latency is taken to be than a predicted one: estimate."""


class LookAhead(Controller):
    """A controller whose scaling tier looks ahead in the fluid engine.

    Args:
        info: the cluster.
        seed: as in `Controller`.
        scenario: says what the application does; workload and interference are taken from observations.
        load, connections, table: as in `Controller`.
        look_ahead: options of `LookAheadScaling`.
    """

    def __init__(
        self,
        info: ClusterInfo,
        *,
        seed: int,
        scenario: Scenario,
        load: dict[str, Any],
        connections: dict[str, Any],
        look_ahead: dict[str, float] | None = None,
        table: dict[str, Any] | None = None,
    ) -> None:
        scaling = {"policy": "agents.look_ahead.agent:LookAheadScaling", **(look_ahead or {})}
        self._scenario = scenario
        super().__init__(info, seed=seed, load=load, connections=connections, scaling=scaling, table=table)

    def _build(self) -> Tiers:
        tiers = super()._build()
        assert isinstance(tiers.scaling, LookAheadScaling)
        tiers.scaling.scenario = self._scenario
        return tiers


class LookAheadScaling:
    """Every scaling interval: the fewest containers that a model of the cluster lets keep the SLA.

    The model is off by some factor, which the last interval shows: measured over predicted p95. It is applied to all
    predictions.

    Args:
        safety: share of the SLA that is aimed at, (0, 1]; 0.85 is an estimate: the p95 of a minute of the shipped
            scenarios scatters by about 7 % around its mean, and so does the model's.
        step: share of a microservice's containers that change at once, (0, 1]: estimate.
        tries: effort of the search, see `search_replicas`, >= 1.
        measured_s: simulated time behind a prediction [s], > 0: estimate.

    Raises:
        ConfigError: an option is out of range.

    Attributes:
        scenario: of the cluster; set by the agent.
    """

    scenario: Scenario

    def __init__(self, *, safety: float = 0.85, step: float = 0.08, tries: int = 6, measured_s: float = 20.0) -> None:
        for name, value in (("safety", safety), ("step", step)):
            if not 0.0 < value <= 1.0:
                raise ConfigError(f"{name}: {value} must be in (0, 1]")
        if tries < 1:
            raise ConfigError(f"tries: {tries} must be at least 1")
        if measured_s <= 0.0:
            raise ConfigError(f"measured_s: {measured_s} must be > 0")
        self._safety, self._step, self._tries, self._measured_s = safety, step, tries, measured_s

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Start with the initial counts and a model that is believed."""
        self._info = info
        self._clock = IntervalClock(info.scaling_interval_s)
        self._wanted = info.initial_replicas.astype(np.int64)

    def scale(self, observation: Observation) -> NDArray[np.int64]:
        """(M,) int64 wanted containers, within the cluster's bounds."""
        if self._clock.due(float(observation["time_s"][0])):
            self._decide(observation)
        return self._wanted.copy()

    def _decide(self, observation: Observation) -> None:
        measured_ms = float(observation["window_p95_ms"].max())
        there = (observation["ready"] + observation["pending"]).sum(axis=1).astype(np.int64)
        if (
            measured_ms <= 0.0
            or observation["workload_rps"].sum() <= 0.0
            or (observation["ready"].sum(axis=1) == 0).any()
        ):
            return
        info = self._info
        model = Model(self.scenario, info, observation, self._measured_s)
        correction = float(np.clip(measured_ms / max(model.p95_ms(), 1e-9), *CORRECTION_LIMITS))
        self._wanted = search_replicas(
            there,
            lambda replicas: correction * model.p95_ms(replicas),
            self._safety * info.sla_ms,
            self._step,
            (info.min_replicas, info.max_replicas),
            self._tries,
        )
