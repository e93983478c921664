"""The joint environment on a real cluster: the action decides all three tiers of a live application."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.cluster import ClusterEnv
from envs.reward import RewardWeights
from envs.tiers import FilledTiers
from imbres_gym.cluster import Cluster
from imbres_gym.config import ConfigError
from imbres_gym.scenario import Scenario, parse_duration

if TYPE_CHECKING:
    from imbres_gym.live.config import LiveConfig
    from imbres_gym.live.journal import Journal
    from imbres_gym.live.metrics import LiveMetrics

UNLIMITED_S = 10.0 * 365.0 * 86400.0
"""Length of an episode without a duration: ten years [s]; a bound of the observation space has to be finite."""


class LiveClusterEnv(ClusterEnv):
    """`imbres_gym/Cluster-v0` on a real Kubernetes cluster: the same spaces, the same rewards, wall-clock time.

    ## Description
    The application runs on Kubernetes; telemetry comes from Prometheus (and Jaeger), load proportions and connections
    act through the node agents' rules, replica counts through Deployments (`docs/live.md`). A step takes as long as a
    control interval: `step` sleeps. What an action may do is bounded by the configuration's `safety`; while telemetry
    is stale, partial or contradictory, the kill switch is on or acting has failed repeatedly, the last plan is held,
    whatever the action; `env.cluster.reasons` says why.

    ## Action Space
    As `envs.cluster.ClusterEnv`. The optional parts `balancer` and `placement` have no effect. The proportions of a
    microservice that only end users call have none either: nobody plans its callers.

    ## Observation Space
    As `envs.cluster.ClusterEnv`, for the microservices of the application and the nodes that there are at the start.
    Latencies are interpolated in histograms. `age_s` of a fresh latency is the age of its newest sample, up to a scrape
    interval. The fourth column of `interference` (LLC) and the second (memory bandwidth) stay 0 without an exporter.

    ## Rewards
    As `envs.cluster.ClusterEnv`.

    ## Starting State
    The cluster as it is found; the first `reset` waits until this process leads (not in a dry run), and every `reset`
    measures one control interval. Nothing is changed, so that no two episodes start alike, whatever the seed.

    ## Episode End
    Never terminated. Truncated when the time reaches the duration. `close` leaves the cluster as configured
    (`on_exit`): as it was found, or with the replica counts decided last.

    ## Information
    As `envs.cluster.ClusterEnv`.

    ## Arguments
    `gym.make("imbres_gym/LiveCluster-v0", config="live.yaml", context="my-cluster", kubeconfig=None, dry_run=False,
    duration=None, scaling_interval_s=None, reward_weights=None, render_mode=None)`. `config` is a YAML file or an
    `imbres_gym.live.config.LiveConfig`; `context` names a context of the kubeconfig file: there is no default. A
    `journal` and `metrics` may be given, too (`imbres_gym.live.journal`, `imbres_gym.live.metrics`).

    ## Version History
    * v0: first version.
    """

    def __init__(
        self,
        config: str | Path | LiveConfig,
        context: str,
        kubeconfig: str | Path | None = None,
        dry_run: bool = False,
        duration: float | str | None = None,
        scaling_interval_s: float | None = None,
        reward_weights: RewardWeights | Mapping[str, float] | None = None,
        render_mode: str | None = None,
        journal: Journal | None = None,
        metrics: LiveMetrics | None = None,
    ) -> None:
        from imbres_gym.live.config import LiveConfig, load_live_config

        loaded = config if isinstance(config, LiveConfig) else load_live_config(config)
        if scaling_interval_s is not None:
            loaded = loaded.with_scaling_interval(scaling_interval_s)
        try:
            self._duration_s = UNLIMITED_S if duration is None else parse_duration(duration)
        except ValueError as error:
            raise ConfigError(f"duration: {duration!r}: {error}") from None
        self._config = loaded
        self._context = context
        self._kubeconfig = None if kubeconfig is None else Path(kubeconfig)
        self._dry_run = dry_run
        self._journal = journal
        self._metrics = metrics
        super().__init__(scenario="live", render_mode=render_mode, reward_weights=reward_weights)

    def _build(self, reference: str | Path | Scenario) -> tuple[Scenario, Cluster, FilledTiers]:
        """The real cluster; `reference` has no meaning, as there is only one."""
        from imbres_gym.live.cluster import LiveCluster
        from imbres_gym.live.info import live_scenario
        from imbres_gym.live.kube import connect

        client = connect(self._context, self._config.namespace, self._kubeconfig)
        cluster = LiveCluster(self._config, client, dry_run=self._dry_run, journal=self._journal, metrics=self._metrics)
        scenario = live_scenario(self._config, cluster.info, self._duration_s)
        return scenario, cluster, FilledTiers(scenario, self.decides, self._policies)

    def _change_scenario(self, options: dict[str, Any]) -> None:
        if options:
            raise ConfigError(f"options: {next(iter(options))!r}: a live cluster has no options at a reset")
