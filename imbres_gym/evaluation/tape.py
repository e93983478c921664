"""Every action of an episode in one compressed file: to play it again, stop it, or go on from it otherwise."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import GraphInstance
from numpy.typing import NDArray

from imbres_gym import __version__
from imbres_gym.agent import AgentConfig
from imbres_gym.config import ConfigError, validate
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.scenario import Scenario
from imbres_gym.telemetry import Telemetry

FORMAT = 1
"""Version of the file format; a reader takes only its own."""
_ARRAYS = ("proportions", "replicas", "placement")
"""Parts of an action that are one array."""


@dataclass(frozen=True, eq=False)
class Tape:
    """A recorded episode.

    Attributes:
        task: what was run.
        version: of the package that ran it.
        actions: one per control interval, as the joint environment takes them.
        digests: (T,) uint64, a hash of the telemetry that followed each action.
    """

    task: EpisodeTask
    version: str
    actions: tuple[Mapping[str, Any], ...]
    digests: NDArray[np.uint64]


class TapeRecorder:
    """Collects the actions of an episode while it runs."""

    def __init__(self, task: EpisodeTask) -> None:
        self._task = task
        self._actions: list[Mapping[str, Any]] = []
        self._digests: list[int] = []

    def add(self, action: Any, telemetry: Telemetry) -> None:
        """Keep an action and what followed.

        Raises:
            ConfigError: the action is not one of the joint environment.
        """
        if not isinstance(action, Mapping):
            raise ConfigError(
                f"agent {self._task.agent_name!r}: only actions of the joint environment can be recorded, this agent "
                f"gives {type(action).__name__}; run it without --record"
            )
        self._actions.append(dict(action))
        self._digests.append(digest(telemetry))

    def tape(self) -> Tape:
        """What was recorded so far."""
        return Tape(self._task, __version__, tuple(self._actions), np.array(self._digests, np.uint64))


def digest(telemetry: Telemetry) -> int:
    """64 bits of a hash of every number in a telemetry."""
    state = hashlib.sha256()
    for field in fields(telemetry):
        value = getattr(telemetry, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            state.update(np.ascontiguousarray(part).tobytes())
    return int.from_bytes(state.digest()[:8], "little")


def save_tape(tape: Tape, path: Path) -> None:
    """Write a tape, whole or not at all."""
    task = tape.task
    header = {
        "format": FORMAT,
        "version": tape.version,
        "scenario": task.scenario.model_dump(mode="json"),
        "agent": task.agent.model_dump(mode="json"),
        "scenario_name": task.scenario_name,
        "agent_name": task.agent_name,
        "seed": task.seed,
        "warmup_s": task.warmup_s,
        "environment": task.environment,
        "balancers": [_text(action.get("balancer")) for action in tape.actions],
    }
    arrays: dict[str, NDArray[Any]] = {"digests": tape.digests}
    for name in _ARRAYS:
        steps = [step for step, action in enumerate(tape.actions) if action.get(name) is not None]
        if steps:
            arrays[f"{name}/steps"] = np.array(steps)
            arrays[name] = np.stack([np.asarray(tape.actions[step][name]) for step in steps])
    arrays |= _graph_arrays([action.get("connections") for action in tape.actions])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def load_tape(path: Path) -> Tape:
    """Read a tape.

    Raises:
        ConfigError: it cannot be read, is no tape, is damaged, or its scenario or agent is not valid any more.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            header: dict[str, Any] = json.loads(str(archive["header"]))
            arrays = {name: archive[name] for name in archive.files if name != "header"}
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}, this version reads {FORMAT}")
        actions = _actions(header["balancers"], arrays)
        digests = arrays["digests"]
        names = {key: header[key] for key in ("scenario_name", "agent_name", "seed", "warmup_s", "environment")}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # where the damage is decides whether zipfile, zlib, NumPy or JSON complains
        raise ConfigError(
            f"{path}: no recorded episode, or a damaged one ({error}); record one with: imbres-gym run ... --record"
        ) from error
    scenario = validate(Scenario, header["scenario"], path)
    agent = validate(AgentConfig, header["agent"], path)
    return Tape(EpisodeTask(scenario=scenario, agent=agent, **names), header["version"], actions, digests)


def _text(balancer: Any) -> str | None:
    return None if balancer is None else str(balancer)


def _graph_arrays(graphs: list[GraphInstance | None]) -> dict[str, NDArray[Any]]:
    """Connections of all steps; a plan that stays in force is stored once."""
    plans: list[_Plan] = []
    plan_of_step = np.zeros(len(graphs), np.int64)
    for step, graph in enumerate(graphs):
        plan = _plan(graph)
        if not plans or not _same(plans[-1], plan):
            plans.append(plan)
        plan_of_step[step] = len(plans) - 1
    return {
        "connections/plan_of_step": plan_of_step,
        "connections/given": np.array([plan.given for plan in plans]),
        "connections/nodes": np.array([plan.nodes for plan in plans]),
        "connections/sizes": np.array([len(plan.links) for plan in plans]),
        "connections/links": np.concatenate([plan.links for plan in plans]),
        "connections/weights": np.concatenate([plan.weights for plan in plans]),
    }


class _Plan(NamedTuple):
    """A connection plan as it is stored; `given` is False where an action had none."""

    given: bool
    nodes: int
    links: NDArray[np.int64]
    weights: NDArray[np.float32]


def _plan(graph: GraphInstance | None) -> _Plan:
    nodes = 0 if graph is None else int(np.asarray(graph.nodes).size)
    if graph is None or graph.edge_links is None or graph.edges is None:
        return _Plan(graph is not None, nodes, np.zeros((0, 2), np.int64), np.zeros((0, 1), np.float32))
    return _Plan(True, nodes, np.asarray(graph.edge_links, np.int64), np.asarray(graph.edges, np.float32))


def _same(one: _Plan, other: _Plan) -> bool:
    arrays = np.array_equal(one.links, other.links) and np.array_equal(one.weights, other.weights)
    return arrays and one[:2] == other[:2]


def _actions(balancers: list[str | None], arrays: Mapping[str, NDArray[Any]]) -> tuple[Mapping[str, Any], ...]:
    """The actions, of which those with one and the same connection plan share it."""
    actions: list[dict[str, Any]] = [{} for _ in balancers]
    for name in _ARRAYS:
        if name in arrays:
            for step, value in zip(arrays[f"{name}/steps"].tolist(), arrays[name], strict=True):
                actions[step][name] = value
    ends = np.cumsum(arrays["connections/sizes"])
    plans: list[GraphInstance | None] = []
    for plan, (size, end) in enumerate(zip(arrays["connections/sizes"].tolist(), ends.tolist(), strict=True)):
        edges = slice(end - size, end)
        graph = GraphInstance(
            nodes=np.zeros(arrays["connections/nodes"][plan], np.int64),
            edges=arrays["connections/weights"][edges] if size else None,
            edge_links=arrays["connections/links"][edges] if size else None,
        )
        plans.append(graph if arrays["connections/given"][plan] else None)
    for action, plan, balancer in zip(actions, arrays["connections/plan_of_step"].tolist(), balancers, strict=True):
        if plans[plan] is not None:
            action["connections"] = plans[plan]
        if balancer is not None:
            action["balancer"] = balancer
    return tuple(actions)
