"""A hand-written agent: a load policy, a connection policy and a scaling policy, composed from configuration."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from agents.performance_table import LatencyTable, PerformanceTable
from imbres_gym.action import encode_connections
from imbres_gym.config import ConfigError, nearest
from imbres_gym.observation import Observation
from imbres_gym.policy import ConnectionPolicy, LoadPolicy, ScalingPolicy, load_object
from imbres_gym.telemetry import ClusterInfo


@dataclass
class Tiers:
    """The three policies that control one environment, and the performance table that they share."""

    load: LoadPolicy
    connections: ConnectionPolicy
    scaling: ScalingPolicy
    table: LatencyTable

    def reset(self, info: ClusterInfo, seed: int) -> None:
        """Start an episode: every policy forgets the last one; those with a `table` get the shared one."""
        for policy in (self.load, self.connections, self.scaling):
            policy.reset(info, seed)
            if hasattr(policy, "table"):
                policy.table = self.table


class Controller:
    """Three tiers as one agent with stable-baselines3's `predict`, for `imbres_gym/Cluster-v0`.

    A tier is `{"policy": "module:Class", **options}`; the class satisfies the tier's protocol in `imbres_gym.policy`
    and takes the options as keywords; "learned" is short for the class of `agents.learned` for this tier. A policy with
    an attribute `table` (set in its `reset`) shares the controller's performance table, which learns from every control
    interval. The table lives as long as an episode.

    Args:
        info: the cluster.
        seed: episode n of this controller (counted over all environments, from 0) is played with `seed + n`.
        load: load tier.
        connections: connection tier.
        scaling: scaling tier.
        table: options of `agents.performance_table.PerformanceTable`; with `redis` (a URL), it is kept there: see
            `agents.redis_table.RedisTable`.

    Raises:
        ConfigError: a policy cannot be imported, or an option is unknown or wrong; says which tier and key.

    Attributes:
        decision_ms: time that the last decision took [ms]: `load`, `connections`, `scaling` and `total` (with the
            performance table and the encoding of the action); of a batch the decision for the last environment.
    """

    def __init__(
        self,
        info: ClusterInfo,
        *,
        seed: int,
        load: dict[str, Any],
        connections: dict[str, Any],
        scaling: dict[str, Any],
        table: dict[str, Any] | None = None,
    ) -> None:
        self._info = info
        self._seed = seed
        self._load = load
        self._connections = connections
        self._scaling = scaling
        self._table = table or {}
        self._tiers: dict[int, Tiers] = {}
        self._episodes = 0
        self.decision_ms: dict[str, float] = dict.fromkeys(("load", "connections", "scaling", "total"), 0.0)
        # Mistakes in the configuration show now, not at the first decision.
        self._build().reset(info, seed)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Decide for one observation or for a batch.

        Args:
            observation: one observation, or a batch with a leading axis on every array.
            state: returned as it is; the controller remembers by itself, per environment index.
            episode_start: (n,) bool, where an episode starts; None if it goes on everywhere. An environment that was
                not seen before starts an episode in any case.
            deterministic: the same either way.

        Returns:
            One action for a single observation, a list of n actions for a batch, and `state`. An action has
            `proportions` ((M, H) float32), `connections` (graph, see `imbres_gym.action`) and `replicas` ((M,) int64);
            `balancer` if the load policy names one, and `placement` ((M, H) int64) if the scaling policy has one.
        """
        batched = observation["time_s"].ndim == 2
        count = len(observation["time_s"]) if batched else 1
        starts = np.zeros(count, bool) if episode_start is None else np.atleast_1d(np.asarray(episode_start, bool))
        actions = []
        for index in range(count):
            if starts[index] or index not in self._tiers:
                self._start_episode(index)
            one = {name: array[index] for name, array in observation.items()} if batched else observation
            actions.append(self._decide(self._tiers[index], one))
        return (actions if batched else actions[0]), state

    def _start_episode(self, index: int) -> None:
        self._tiers[index] = self._build()
        self._tiers[index].reset(self._info, self._seed + self._episodes)
        self._episodes += 1

    def _build(self) -> Tiers:
        return Tiers(
            load=build_policy("load", self._load, "propose"),
            connections=build_policy("connections", self._connections, "connect"),
            scaling=build_policy("scaling", self._scaling, "scale"),
            table=_construct("table", _table_class(self._table), self._table, self._info),
        )

    def _decide(self, tiers: Tiers, observation: Observation) -> dict[str, Any]:
        """The paper's order: measure, shift load, learn, connect, and, at its own interval, scale."""
        start = time.perf_counter()
        proportions = tiers.load.propose(observation)
        loaded = time.perf_counter()
        tiers.table.observe(observation)
        learnt = time.perf_counter()
        plan = tiers.connections.connect(observation, proportions)
        connected = time.perf_counter()
        replicas = tiers.scaling.scale(observation)
        scaled = time.perf_counter()
        action = self._encode(proportions, encode_connections(plan, observation), replicas) | _optional_parts(tiers)
        end = time.perf_counter()
        self.decision_ms = {
            "load": 1000.0 * (loaded - start),
            "connections": 1000.0 * (connected - learnt),
            "scaling": 1000.0 * (scaled - connected),
            "total": 1000.0 * (end - start),
        }
        return action

    def _encode(
        self, proportions: NDArray[np.float64], connections: Any, replicas: NDArray[np.int64]
    ) -> dict[str, Any]:
        return {
            "proportions": proportions.astype(np.float32),
            "connections": connections,
            "replicas": np.clip(replicas, self._info.min_replicas, self._info.max_replicas).astype(np.int64),
        }


def _optional_parts(tiers: Tiers) -> dict[str, Any]:
    """The parts of an action that only some policies decide."""
    parts = {
        "balancer": getattr(tiers.load, "balancer", None),
        "placement": getattr(tiers.scaling, "placement", None),
    }
    return {name: part for name, part in parts.items() if part is not None}


def build_policy(tier: str, options: dict[str, Any], method: str) -> Any:
    """Build one tier from its configuration.

    Args:
        tier: name of the tier, for errors.
        options: `policy`, the import path, and the keywords of its class.
        method: what a policy of this tier must be able to do.

    Raises:
        ConfigError: no `policy`, it cannot be imported, is no policy of this tier, or does not take an option.
    """
    if not isinstance(options, dict) or not isinstance(options.get("policy"), str):
        raise ConfigError(f"{tier}: policy: missing; write an import path module:Class")
    keywords = dict(options)
    path = keywords.pop("policy")
    if path == "learned":  # short for the class of agents.learned that is made for this tier
        path = f"agents.learned:Learned{tier.capitalize()}"
    factory = load_object(path, f"{tier}: policy")
    if not callable(getattr(factory, method, None)):
        raise ConfigError(f"{tier}: policy: {path!r} is no policy of this tier, it has no method {method!r}")
    return _construct(tier, factory, keywords)


def _table_class(options: dict[str, Any]) -> type[PerformanceTable]:
    """Where the table is kept: in memory, or in Redis if the options name one."""
    if "redis" not in options:
        return PerformanceTable
    from agents.redis_table import RedisTable

    return RedisTable


def _construct(tier: str, factory: Any, keywords: dict[str, Any], *arguments: Any) -> Any:
    """Call a class with options from a file, and turn its complaints into errors that name the tier."""
    parameters = list(inspect.signature(factory).parameters.values())[len(arguments) :]
    known = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key in keywords:
        if key not in known and not takes_any:
            raise ConfigError(f"{tier}: {key}: unknown option of {factory.__name__}; {nearest(key, known)}")
    keywords = {key: _checked(factory, tier, key, value) for key, value in keywords.items()}
    try:
        return factory(*arguments, **keywords)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{tier}: {error}") from error


def _checked(factory: Any, tier: str, key: str, value: Any) -> Any:
    """The value of an option as its annotation in the constructor wants it."""
    constructor = factory.__init__ if inspect.isclass(factory) else factory
    hint = get_type_hints(constructor).get(key, Any)
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{tier}: {key}: {error.errors()[0]['msg']} (got {value!r})") from None
