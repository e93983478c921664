"""One episode to run: scenario, agent and seed; and the fingerprint that says whether two are the same."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbres_gym import __version__
from imbres_gym.agent import AgentConfig, load_agent_config
from imbres_gym.artifacts import content_hashes, fill_names, scenario_label
from imbres_gym.config import ConfigError
from imbres_gym.scenario import Scenario, load_scenario

ENVIRONMENT = "envs:imbres_gym/Cluster-v0"
"""Gymnasium id of the environment that agents are evaluated in: the joint one, which decides all three tiers."""

FIRST_SEED = 1000
"""Evaluation seeds are 1000, 1001, ...: fixed for all agents, and no training may use them."""

MOST_SEEDS = 1000
"""Evaluation has those below 2000, which tuning has; see `imbres_gym.training.seeds`."""

WARMUP_S = 300.0
"""Usual length of the start of an episode that the settled metrics leave out [s]; see `default_warmup`."""


@dataclass(frozen=True)
class EpisodeTask:
    """One whole episode.

    Attributes:
        scenario_name, agent_name: as tables show them.
        scenario: with the duration and the engine of this comparison.
        agent: the agent's configuration.
        seed: of the cluster and of the agent.
        warmup_s: start of the episode that the settled metrics leave out.
        environment: Gymnasium id, with `module:` before it if that module registers it.
    """

    scenario_name: str
    scenario: Scenario
    agent_name: str
    agent: AgentConfig
    seed: int
    warmup_s: float
    environment: str = ENVIRONMENT

    @property
    def title(self) -> str:
        """For people: "social-network/high-strict imbres seed 1000"."""
        return f"{self.scenario_name} {self.agent_name} seed {self.seed}"

    @property
    def file_stem(self) -> str:
        """For files: scenario, agent and seed, without characters that a file name cannot have."""
        return f"{slug(self.scenario_name)}.{slug(self.agent_name)}.seed-{self.seed}"

    def fingerprint(self) -> dict[str, str]:
        """Hash of each part that the result depends on; the same parts give the same result.

        Raises:
            ConfigError: a file that the agent's options name is missing; says which agent.
        """
        return {
            "scenario": scenario_hash(self.scenario),
            "agent": _hash([self.agent.model_dump(mode="json", exclude={"name", "description"}), self._files()]),
            "duration": f"{self.scenario.duration:g}",
            "warmup": f"{self.warmup_s:g}",
            "environment": self.environment,
            "version": __version__,
        }

    def _files(self) -> dict[str, str]:
        """Content hashes of the files that the agent's options name."""
        try:
            return content_hashes(fill_names(self.agent.options, self.scenario))
        except ConfigError as error:
            raise ConfigError(f"agent {self.agent_name!r}: {error}") from None


def scenario_hash(scenario: Scenario, besides: frozenset[str] = frozenset()) -> str:
    """Hash of everything in a scenario that a result depends on, but for its name, description and duration.

    Args:
        scenario: a recording that it names counts by its content, wherever it lies.
        besides: further keys that do not matter.
    """
    data = scenario.model_dump(mode="json", exclude={"name", "description", "duration", *besides})
    for part in ("workload", "interference"):
        if "file" in data[part]:
            file: Path = getattr(scenario, part).file
            data[part]["file"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return _hash(data)


def slug(name: str) -> str:
    """A name as part of a file name: `/` becomes `--`, other special characters become `_`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name.replace("/", "--"))


def _hash(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def default_warmup(duration_s: float) -> float:
    """Five minutes, but at most a quarter of the episode [s].

    All agents start from the same provisioning, so that the first minutes show how that is left rather than where the
    agent arrives.
    """
    return min(WARMUP_S, duration_s / 4.0)


def longest_warmup(scenario: Scenario) -> float:
    """The most that settled metrics may leave out of an episode [s].

    The first interval passes before the first decision, and at least one must remain.
    """
    return scenario.duration - scenario.control_interval_s


def plan_tasks(
    scenarios: list[str],
    agents: list[str],
    seeds: int,
    *,
    duration_s: float | None = None,
    warmup_s: float | None = None,
    engine: str = "events",
    environment: str = ENVIRONMENT,
) -> list[EpisodeTask]:
    """Every episode of a comparison: scenarios x agents x seeds, in this order.

    Args:
        scenarios: names or paths of YAML files.
        agents: names or paths of YAML files.
        seeds: number of episodes per scenario and agent.
        duration_s: length of an episode; the scenario's if None.
        warmup_s: part that the settled metrics leave out; `default_warmup` if None.
        engine: engine of the cluster.
        environment: Gymnasium id.

    Raises:
        ConfigError: an unknown or invalid scenario or agent, two of one name, a warm-up that leaves nothing, or
            more than `MOST_SEEDS` seeds.
    """
    if seeds > MOST_SEEDS:
        last = FIRST_SEED + MOST_SEEDS - 1
        raise ConfigError(
            f"--seeds {seeds}: at most {MOST_SEEDS}, since evaluation has the seeds {FIRST_SEED} to {last}; "
            "those above are for tuning and training"
        )
    overrides: dict[str, Any] = {"engine": engine} | ({} if duration_s is None else {"duration": duration_s})
    loaded = [(scenario_label(name), load_scenario(name, **overrides)) for name in scenarios]
    configs = [load_agent_config(name) for name in agents]
    labels = [config.name if _is_path(name) else name for name, config in zip(agents, configs, strict=True)]
    _refuse_duplicates([name for name, _ in loaded], "scenarios")
    _refuse_duplicates(labels, "agents")
    _refuse_duplicates([slug(name) for name, _ in loaded], "scenarios", " in file names")
    _refuse_duplicates([slug(label) for label in labels], "agents", " in file names")
    return [
        EpisodeTask(name, scenario, label, config, seed, _warmup(warmup_s, scenario), environment)
        for name, scenario in loaded
        for label, config in zip(labels, configs, strict=True)
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    ]


def _is_path(reference: str) -> bool:
    return Path(reference).suffix in {".yaml", ".yml"}


def _refuse_duplicates(names: list[str], what: str, where: str = "") -> None:
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ConfigError(f"two of the {what} are called {double[0]!r}{where}; give each a name of its own, once")


def _warmup(warmup_s: float | None, scenario: Scenario) -> float:
    if warmup_s is None:
        return default_warmup(scenario.duration)
    if warmup_s > longest_warmup(scenario):
        raise ConfigError(
            f"a warm-up of {warmup_s:g} s leaves nothing of an episode of {scenario.duration:g} s; "
            "give a shorter --warmup or a longer --duration"
        )
    return warmup_s
