"""What all environments share: a cluster, the tiers that are filled, reward, metrics and rendering."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym

from envs.account import Account
from envs.metrics import METRICS
from envs.render import RENDER_MODES, Renderer
from envs.reward import PARTS, RewardWeights, make_weights, reward_bounds
from envs.spaces import observation_space
from envs.tiers import FilledTiers, Tier
from imbres_gym.cluster import Cluster, make_cluster
from imbres_gym.config import ConfigError, nearest
from imbres_gym.meter import Meter
from imbres_gym.observation import Observation, Page
from imbres_gym.plan import Plan
from imbres_gym.scenario import Scenario, load_scenario
from imbres_gym.telemetry import ClusterInfo, Telemetry

ILLEGAL_KINDS = ("proportions", "connections", "replicas", "balancer", "placement")
"""Kinds of illegal actions that `info["illegal_actions"]` counts, beside their "total" in the episode."""

NAMES = {
    "metrics": (*METRICS, "reward"),
    "reward_parts": PARTS,
    "illegal_actions": (*ILLEGAL_KINDS, "total"),
}
"""Groups and names in the info of a step; besides there is "time_s"."""

INFO = (*((group, name) for group, names in NAMES.items() for name in names), ("time_s", ""))
"""Group and name of each number of a step."""

GROUPS = [
    (group, names, slice(INFO.index((group, names[0])), INFO.index((group, names[-1])) + 1))
    for group, names in NAMES.items()
]
"""Group, names, and where they are among the numbers."""


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
        self._outcome: list[float] = []
        self._illegal: dict[str, int] = {}
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
        self._check_started()
        return self._meter.telemetry

    @property
    def observation(self) -> Observation:
        """The last observation, as the caller's own."""
        return self._meter.observe()

    @property
    def observation_in_place(self) -> Observation:
        """The last observation, for callers that read it before the next step overwrites it, and only read it."""
        return self._meter.look()

    @property
    def reward(self) -> float:
        """Of the last step."""
        return self._outcome[len(METRICS)]

    @property
    def numbers(self) -> list[float]:
        """The values of `INFO` of the last step."""
        illegal = [self._illegal.get(kind, 0) for kind in ILLEGAL_KINDS]
        return [*self._outcome, *illegal, self._illegal_total, self._meter.time_s]

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
        self._tiers.reset(self.cluster_info, episode_seed)
        self._renderer.reset()
        self._meter.reset(episode_seed)
        self._record()
        self._settle()
        connections = self._meter.measured.connections
        self._account.start(int(connections.sum()))
        self._account.add(self._meter.panel)
        self._close({})
        if self.render_mode == "human":
            self.render()
        return self.observation, self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act, let the time of one step pass, and measure.

        An illegal action never raises: see `envs.actions` for the rule, and `info["illegal_actions"]` for the count.
        """
        truncated = self.step_in_place(action)
        return self.observation, self.reward, False, truncated, self._info()

    def step_in_place(self, action: Any) -> bool:
        """As `step`, for callers that read `observation_in_place`, `reward` and `numbers`: whether truncated."""
        self._check_started()
        decided, illegal = self._read(action)
        self._account.start()
        while True:
            self._advance(self._complete(decided))
            self._account.add(self._meter.panel)
            truncated = self._truncated()
            if truncated or self._step_ends():
                break
        self._close(illegal)
        if self.render_mode == "human":
            self.render()
        return truncated

    def show(self, page: Page) -> None:
        """Write the last observation into a page of the caller's."""
        self._meter.show(page)

    def render(self) -> Any:
        """The cluster as it is: text for "ansi", an image (700, 1000, 3) uint8 for "rgb_array", a window for "human".

        Raises:
            RuntimeError: "human" without a display.
        """
        if self.render_mode is None:
            gym.logger.warn(f"render() without a render mode: make the environment with one of {RENDER_MODES}")
            return None
        return self._renderer.render(self.telemetry, self.cluster_info, self.observation_in_place)

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
        intervals = self._meter.time_s / self.cluster_info.scaling_interval_s
        return abs(intervals - round(intervals)) < 1e-6

    def _truncated(self) -> bool:
        return self._meter.time_s >= self._scenario.duration - 1e-6

    def _advance(self, plan: Plan) -> None:
        """One control interval under a plan; its replica counts and placement are left out where they are not due."""
        if not self._scaling_due():
            plan = Plan(plan.proportions, plan.connections, balancer=plan.balancer)
        self._cluster.apply(plan)
        self._meter.advance(self.cluster_info.control_interval_s)
        self._record()

    def _record(self) -> None:
        if self.render_mode is not None:
            self._renderer.record(self.telemetry)

    def _check_started(self) -> None:
        if not self._started:
            raise gym.error.ResetNeeded("call reset() before anything else")

    def _close(self, illegal: dict[str, int]) -> None:
        self._outcome = self._account.close(self._meter.panel)
        self._illegal = illegal
        self._illegal_total += sum(illegal.values())

    def _info(self) -> dict[str, Any]:
        *values, time_s = self.numbers
        info: dict[str, Any] = {group: dict(zip(names, values[of], strict=True)) for group, names, of in GROUPS}
        info["time_s"] = time_s
        return info

    def _use(self, scenario: Scenario, cluster: Cluster, tiers: FilledTiers) -> None:
        self._scenario = scenario
        self._cluster = cluster
        self._meter = Meter(cluster)
        self._account = Account(cluster.info, self._weights)
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
