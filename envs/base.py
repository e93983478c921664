"""What all environments share: a cluster, the tiers that are filled, reward, metrics and rendering."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym

from envs.metrics import step_metrics
from envs.render import RENDER_MODES, Renderer
from envs.reward import RewardWeights, make_weights, reward_bounds, reward_parts, weighted_sum
from envs.spaces import observation_space
from envs.tiers import FilledTiers, Tier
from imbres_gym.cluster import Cluster, make_cluster
from imbres_gym.config import ConfigError, nearest
from imbres_gym.observation import Observation, Observer
from imbres_gym.plan import Plan
from imbres_gym.scenario import Scenario, load_scenario
from imbres_gym.telemetry import ClusterInfo, Telemetry

ILLEGAL_KINDS = ("proportions", "connections", "replicas", "balancer", "placement")
"""Kinds of illegal actions that `info["illegal_actions"]` counts, beside their "total" in the episode."""


class MicroserviceEnv(gym.Env[Observation, Any]):
    """A cluster of microservices as a Gymnasium environment; the base of all environments here.

    A subclass says which tiers its action decides (`decides`), what the action space is, how an action is read
    (`_read`) and how the plan of a control interval is completed (`_complete`).

    Args:
        scenario: name in `configs/scenarios/`, path of a YAML file, or a `Scenario`.
        engine: replaces the scenario's engine; None keeps it.
        render_mode: None, "ansi", "rgb_array" or "human".
        duration: replaces the scenario's duration: seconds, or text such as "30m".
        scaling_interval_s: replaces the scenario's time between changes of replica counts [s].
        reward_weights: weights of the reward parts; parts that are not named keep their default.
        load, connections, scaling: import path `module:Class` of the policy of a tier that the action does not decide;
            None is the scenario's.

    Raises:
        ConfigError: the scenario or an argument is wrong; says which, and what would be right.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 4}  # noqa: RUF012 (type of gym.Env)
    decides: ClassVar[frozenset[Tier]]
    """Tiers that the action decides."""

    def __init__(
        self,
        scenario: str | Path | Scenario = "social-network/high-strict",
        engine: str | None = None,
        render_mode: str | None = None,
        duration: float | str | None = None,
        scaling_interval_s: float | None = None,
        reward_weights: RewardWeights | Mapping[str, float] | None = None,
        load: str | None = None,
        connections: str | None = None,
        scaling: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ConfigError(f"render_mode: {render_mode!r}: {nearest(render_mode, RENDER_MODES)}")
        self.render_mode = render_mode
        given = {"engine": engine, "duration": duration, "scaling_interval_s": scaling_interval_s}
        self._overrides = {name: value for name, value in given.items() if value is not None}
        self._policies: dict[Tier, str | None] = {"load": load, "connections": connections, "scaling": scaling}
        self._weights = make_weights(reward_weights)
        self._renderer = Renderer(render_mode)
        self._started = False
        self._telemetry: Telemetry | None = None
        self._observation: Observation = {}
        self._illegal_total = 0
        self._use(*self._build(scenario))
        self.observation_space, self.action_space = self._make_spaces(self._scenario, self.cluster_info)

    @property
    def scenario(self) -> Scenario:
        """The scenario in use, overrides included."""
        return self._scenario

    @property
    def cluster(self) -> Cluster:
        """The cluster that is acted on."""
        return self._cluster

    @property
    def cluster_info(self) -> ClusterInfo:
        """What is fixed for an episode."""
        return self._cluster.info

    @property
    def telemetry(self) -> Telemetry:
        """Measurements of the last control interval.

        Raises:
            ResetNeeded: there was no reset yet.
        """
        if self._telemetry is None:
            raise gym.error.ResetNeeded("call reset() before anything else")
        return self._telemetry

    @property
    def observation(self) -> Observation:
        """The last observation; wrappers and renderers read it, nobody may write into it."""
        return self._observation

    @property
    def reward_bounds(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of every reward part (unweighted) and of the "reward"."""
        return reward_bounds(self.cluster_info, self._weights)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: drives everything that is random. Without one, the first episode takes the scenario's seed and each
                later one draws its own from `np_random`.
            options: {"scenario": name, path or Scenario} changes the scenario, if the spaces stay the same.

        Raises:
            ConfigError: an unknown option, or a scenario that is wrong or needs other spaces.
        """
        self._change_scenario(options or {})
        if seed is None and not self._started:
            seed = self._scenario.seed
        super().reset(seed=seed)
        self._started = True
        episode_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self._illegal_total = 0
        self._observer.reset()
        self._tiers.reset(self.cluster_info, episode_seed)
        self._renderer.reset()
        self._see(self._cluster.reset(episode_seed))
        self._settle()
        illegal = dict.fromkeys(ILLEGAL_KINDS, 0)
        _, info = self._outcome([self.telemetry], sum(self.telemetry.connections.tolist()), illegal)
        if self.render_mode == "human":
            self.render()
        return self._copy_of_observation(), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act, let the time of one step pass, and measure.

        An illegal action never raises: see `envs.actions` for the rule, and `info["illegal_actions"]` for the count.
        """
        reward, truncated, info = self.step_in_place(action)
        return self._copy_of_observation(), reward, False, truncated, info

    def step_in_place(self, action: Any) -> tuple[float, bool, dict[str, Any]]:
        """As `step`, for callers that read `observation`, and only read it: reward, whether truncated, and info."""
        connections_before = sum(self.telemetry.connections.tolist())
        decided, illegal = self._read(action)
        intervals: list[Telemetry] = []
        while not intervals or not (self._step_ends() or self._truncated()):
            intervals.append(self._advance(self._complete(decided)))
        reward, info = self._outcome(intervals, connections_before, illegal)
        if self.render_mode == "human":
            self.render()
        return reward, self._truncated(), info

    def render(self) -> Any:
        """The cluster as it is: text for "ansi", an image (700, 1000, 3) uint8 for "rgb_array", a window for "human".

        Raises:
            RuntimeError: "human" without a display.
        """
        if self.render_mode is None:
            gym.logger.warn(f"render() without a render mode: make the environment with one of {RENDER_MODES}")
            return None
        return self._renderer.render(self.telemetry, self.cluster_info, self._observation)

    def close(self) -> None:
        """Release the cluster and the window; a second call does nothing."""
        self._renderer.close()
        self._cluster.close()

    @abstractmethod
    def _make_action_space(self, info: ClusterInfo) -> gym.Space[Any]:
        """The native action space."""

    @abstractmethod
    def _read(self, action: Any) -> tuple[Plan, dict[str, int]]:
        """The parts of a plan that an action decides, and the count of illegal ones for every kind."""

    @abstractmethod
    def _complete(self, decided: Plan) -> Plan:
        """The plan of the next control interval: what is decided, and the policies' decisions for the other tiers."""

    def _step_ends(self) -> bool:
        """Whether the step ends with the control interval that has just passed."""
        return True

    def _settle(self) -> None:
        """Let time pass after the reset of the cluster, up to the first decision."""

    def _scaling_due(self) -> bool:
        """Whether now is a multiple of the scaling interval: replica counts take effect."""
        intervals = self.telemetry.time_s / self.cluster_info.scaling_interval_s
        return abs(intervals - round(intervals)) < 1e-6

    def _truncated(self) -> bool:
        return self.telemetry.time_s >= self._scenario.duration - 1e-6

    def _advance(self, plan: Plan) -> Telemetry:
        """One control interval under a plan; its replica counts and placement are left out where they are not due."""
        self._cluster.apply(plan if self._scaling_due() else replace(plan, replicas=None, placement=None))
        return self._see(self._cluster.advance(self.cluster_info.control_interval_s))

    def _see(self, telemetry: Telemetry) -> Telemetry:
        self._telemetry = telemetry
        self._observation = self._observer.observe(telemetry)
        self._renderer.record(telemetry)
        return telemetry

    def _copy_of_observation(self) -> Observation:
        # Callers may write into what they get; the policies and wrappers still need the original.
        return {name: array.copy() for name, array in self._observation.items()}

    def _outcome(
        self, intervals: list[Telemetry], connections_before: int, illegal: dict[str, int]
    ) -> tuple[float, dict[str, Any]]:
        metrics = step_metrics(intervals, self._observation)
        parts = reward_parts(intervals, self.cluster_info, connections_before, metrics["p95_ms"])
        reward = weighted_sum(parts, self._weights)
        self._illegal_total += sum(illegal.values())
        return reward, {
            "metrics": {**metrics, "reward": reward},
            "reward_parts": parts,
            "illegal_actions": {**dict.fromkeys(ILLEGAL_KINDS, 0), **illegal, "total": self._illegal_total},
            "time_s": self.telemetry.time_s,
            "telemetry": self.telemetry,
        }

    def _use(self, scenario: Scenario, cluster: Cluster, tiers: FilledTiers) -> None:
        self._scenario = scenario
        self._cluster = cluster
        self._observer = Observer(cluster.info)
        self._tiers = tiers

    def _build(self, reference: str | Path | Scenario) -> tuple[Scenario, Cluster, FilledTiers]:
        scenario = load_scenario(reference, **self._overrides)
        tiers = FilledTiers(scenario, self.decides, self._policies)
        return scenario, make_cluster(scenario), tiers

    def _change_scenario(self, options: dict[str, Any]) -> None:
        for name in options:
            if name != "scenario":
                raise ConfigError(f"options: unknown option {name!r}; {nearest(name, ['scenario'])}")
        if "scenario" not in options:
            return
        scenario, cluster, tiers = self._build(options["scenario"])
        if self._make_spaces(scenario, cluster.info) != (self.observation_space, self.action_space):
            cluster.close()
            raise ConfigError(f"options: scenario {scenario.name!r} needs other spaces; make a new environment for it")
        self._cluster.close()
        self._use(scenario, cluster, tiers)

    def _make_spaces(self, scenario: Scenario, info: ClusterInfo) -> tuple[gym.Space[Any], gym.Space[Any]]:
        # The last step may end after the duration, if that is no multiple of the intervals.
        return observation_space(info, scenario.duration + info.scaling_interval_s), self._make_action_space(info)
