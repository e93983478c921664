"""A scenario: application x hosts x workload x interference x SLA x engine, from one YAML file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from imbres_gym.application import Application, load_application
from imbres_gym.config import ConfigError, StrictModel, find_config, key_error, nearest, read_yaml, validate
from imbres_gym.sim.effects import Effects
from imbres_gym.sim.interference import Interference
from imbres_gym.sim.workload import Workload


def parse_duration(value: Any) -> float:
    """Seconds of "90", "90s", "30m" or "1h", or of a number of seconds.

    Raises:
        ValueError: not a positive duration.
    """
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h)?\s*", value)
        seconds = float(match[1]) * {"s": 1.0, "m": 60.0, "h": 3600.0}[match[2] or "s"] if match else 0.0
    else:
        seconds = float(value) if isinstance(value, int | float) else 0.0
    if not (math.isfinite(seconds) and seconds > 0.0):
        raise ValueError("not a duration; write for example 90s, 30m or 1h")
    return seconds


Duration = Annotated[float, BeforeValidator(parse_duration)]

INITIAL_UTILISATION = 0.35
"""Mean CPU demand as a share of the quota: the median share at which the latency of the services that Erms measured
starts to climb."""
LEAST_UTILISATION = 0.05
"""What is left of it for requests, at least, where a container's idling takes more: a choice."""


class Hosts(StrictModel):
    """The hosts (nodes) that run the application's containers, all alike."""

    count: int = Field(ge=1)
    cores: float = Field(gt=0.0)
    memory_mb: float = Field(gt=0.0)


class DefaultPolicies(StrictModel):
    """Import paths `module:Class` of the policies that fill the tiers which an environment's agent does not decide."""

    load: str = "agents.load.balanced:BalancedLoad"
    connections: str = "agents.connections.full:FullConnections"
    scaling: str = "agents.scaling.static:StaticScaling"


class Scenario(StrictModel):
    """Everything that an engine needs, validated as a whole."""

    name: str = ""
    description: str = ""
    application: Application
    """In the file: a name of `configs/applications/`, a path relative to the file, or the application itself."""
    hosts: Hosts
    workload: Workload
    interference: Interference
    sla_ms: float = Field(gt=0.0)
    """Target of the 95th percentile of the E2E latency of every request class [ms]."""
    duration: Duration = 1800.0
    """Length of an episode [s]; "30m" in the file."""
    control_interval_s: float = Field(default=5.0, gt=0.0)
    """Time between decisions of the load and connection tiers (Imbres section 6.1)."""
    scaling_interval_s: float = Field(default=60.0, gt=0.0)
    """Time between changes of replica counts (Imbres section 6.1)."""
    startup_s: float = Field(default=5.0, ge=0.0)
    """Time from the creation of a container until it takes requests [s]: estimate."""
    initial_utilisation: float = Field(default=INITIAL_UTILISATION, gt=0.0, le=1.0)
    """At the start every microservice has the containers that put its mean CPU demand at this share of its quota."""
    initial_replicas: dict[str, int] = Field(default_factory=dict)
    """Overrides of the initial count, per microservice."""
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=200, ge=1)
    """Bounds of a replica count; the defaults are choices."""
    connections_per_container: int = Field(default=10, ge=1)
    """Connection budget of a pair, per downstream container (Imbres section 6.1: ten)."""
    effects: Effects = Effects()
    trace_sampling: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of requests whose spans are recorded."""
    engine: Literal["events", "fluid"] = "events"
    seed: int = Field(default=0, ge=0)
    policies: DefaultPolicies = DefaultPolicies()

    @model_validator(mode="after")
    def _fits_together(self) -> Scenario:
        names = self.application.microservice_names
        if self.min_replicas > self.max_replicas:
            raise key_error("min_replicas", f"{self.min_replicas} is more than max_replicas ({self.max_replicas})")
        for name, count in self.initial_replicas.items():
            if name not in names:
                raise key_error(f"initial_replicas.{name}", f"no microservice {name!r}; {nearest(name, names)}")
            if not self.min_replicas <= count <= self.max_replicas:
                limits = f"{self.min_replicas} to {self.max_replicas}"
                raise key_error(
                    f"initial_replicas.{name}", f"{count} is outside min_replicas to max_replicas ({limits})"
                )
        for key, seconds in (("scaling_interval_s", self.scaling_interval_s), ("duration", self.duration)):
            intervals = seconds / self.control_interval_s
            if intervals < 1.0 - 1e-9 or abs(intervals - round(intervals)) > 1e-6:
                raise key_error(
                    key, f"{seconds:g} must be a multiple of control_interval_s ({self.control_interval_s:g})"
                )
        self._check_placement()
        return self

    def _check_placement(self) -> None:
        """Refuse hosts that cannot hold the containers at the start."""
        app, hosts, counts = self.application, self.hosts, self.replicas_at_start()
        for name, count in counts.items():
            cores, memory_mb = app.cores_of(name), app.memory_of(name)
            # Whole containers: two of 0.6 cores do not share a core of one host and a core of another.
            room = hosts.count * int(min(hosts.cores / cores, hosts.memory_mb / memory_mb) + 1e-9)
            if count > room:
                raise key_error(
                    "hosts",
                    f"{count} containers of {name!r} ({cores:g} cores, {memory_mb:g} MB each) do not fit: "
                    f"{hosts.count} hosts of {hosts.cores:g} cores and {hosts.memory_mb:g} MB hold {room}; "
                    "more or larger hosts, or fewer containers (initial_replicas, workload)",
                )
        for what, need, room_for in (
            ("cores", sum(app.cores_of(n) * c for n, c in counts.items()), hosts.count * hosts.cores),
            ("MB of memory", sum(app.memory_of(n) * c for n, c in counts.items()), hosts.count * hosts.memory_mb),
        ):
            if need > room_for * (1.0 + 1e-9):
                raise key_error(
                    "hosts",
                    f"the initial containers need {need:g} {what}, {hosts.count} hosts have {room_for:g}; "
                    "more or larger hosts, or fewer containers (initial_replicas, workload)",
                )

    def replicas_at_start(self) -> dict[str, int]:
        """Containers of each microservice at the start of an episode."""
        demand = self.application.cpu_ms_per_request()
        rate = self.workload.rate(0.0)
        counts: dict[str, int] = {}
        for name in self.application.microservice_names:
            quota = self.application.cores_of(name)
            idle = self.application.microservices[name].idle_cores / quota
            share = max(self.initial_utilisation - idle, LEAST_UTILISATION)
            needed = math.ceil(rate * demand[name] / 1000.0 / (quota * share) - 1e-9)
            counts[name] = self.initial_replicas.get(name, min(max(needed, self.min_replicas), self.max_replicas))
        return counts


def load_scenario(reference: str | Path | Scenario, **overrides: Any) -> Scenario:
    """Read a scenario by name ("social-network/high-strict") or from any YAML file; keywords override its keys.

    Raises:
        ConfigError: no such scenario, or it is not valid; says which key, and what would be right.
    """
    if not isinstance(reference, (str, Path, Scenario)):
        raise ConfigError(f"scenario: {reference!r} must be a name, the path of a file, or a Scenario")
    if isinstance(reference, Scenario):
        if not overrides:
            return reference
        data = {**{name: getattr(reference, name) for name in type(reference).model_fields}, **overrides}
        source, folder = Path(reference.name or "scenario"), Path()
    else:
        source = find_config("scenarios", reference)
        data = {"name": str(reference), **read_yaml(source), **overrides}
        folder = source.parent
    try:
        data = _with_files_of(folder, data)
    except ConfigError as error:
        raise ConfigError(f"{source}: application: {error}") from None
    return validate(Scenario, data, source)


def _with_files_of(folder: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The keys of a scenario with its application loaded and its recorded traces found, relative to `folder`."""
    application = data.get("application")
    if isinstance(application, str | Path):
        is_file = Path(application).suffix in {".yaml", ".yml"}
        data = {**data, "application": load_application(folder / application if is_file else application)}
    for key in ("workload", "interference"):
        part = data.get(key)
        if isinstance(part, dict) and isinstance(part.get("file"), str | Path):
            data = {**data, key: {**part, "file": (folder / part["file"]).resolve()}}
    return data
