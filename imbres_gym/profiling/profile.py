"""The result of profiling an application, as a small file that scalers read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, model_validator

from imbres_gym.artifacts import find_artifact
from imbres_gym.config import ConfigError, StrictModel, key_error
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.profiling.graph import ClassGraph

FORMAT = 1
"""Version of the file format."""

SUFFIX = ".json.gz"

Vector = tuple[float, ...]
Table = tuple[Vector, ...]


class Cost(StrictModel):
    """What the profiling cost.

    All but the processor time would be the same on a real cluster.
    """

    runs: int
    simulated_hours: float
    """Cluster time, settling included."""
    container_hours: float
    cpu_s: float
    """Processor time of the simulation, over all workers; depends on the machine."""


class Points(StrictModel):
    """Measurements of the P points (interference x load), each over all repeats; M microservices, C classes."""

    grid: tuple[tuple[float, float], ...]
    """(P, 2) CPU and memory-bandwidth utilisation by best-effort jobs, the same on every host [0-1]."""
    load: Vector
    """(P,) rate of end-user requests as a multiple of the reference rate [-]."""
    cpu: Vector
    """(P,) CPU utilisation of the hosts by everything, mean over hosts [0-1]: what an observation shows."""
    memory_bandwidth: Vector
    """(P,) likewise."""
    load_rps: Table
    """(P, M) calls/s per container."""
    p95_ms: Table
    """(P, M) 95th percentile of own latency over all containers, median over the repeats [ms]."""
    mean_ms: Table
    """(P, M) mean own latency [ms]."""
    utilisation: Table
    """(P, M) CPU use of the containers as a share of their quota [0-1]."""
    e2e_p95_ms: Table
    """(P, C) 95th percentile of E2E latency, failed requests counted as 10 s, median over the repeats [ms]."""
    answered: Table
    """(P, C) requests answered without failure, as a share of those that arrived [-]."""


class Profile(StrictModel):
    """One application's profile with its provenance."""

    format: int = FORMAT
    version: str
    """Version of the package that made it."""
    application: str
    scenario: str
    """The scenario that gave hosts, effects and the reference rate."""
    microservices: tuple[str, ...]
    classes: tuple[str, ...]
    reference_rps: float
    """Rate at which the containers are busy at the reference utilisation [1/s]."""
    replicas: tuple[int, ...]
    """(M,) containers, fixed."""
    network: float
    """Network utilisation by best-effort jobs on every host [0-1]."""
    connections: str
    """Connection scheme that was in force: a key of `design.CONNECTIONS`."""
    seeds: tuple[int, ...]
    """One per repeat."""
    graphs: dict[str, ClassGraph]
    """Call graph per request class, from the application's file."""
    points: Points
    cost: Cost

    @model_validator(mode="after")
    def _shapes_agree(self) -> Profile:
        points, p = self.points, len(self.points.grid)
        for name in ("load", "cpu", "memory_bandwidth"):
            if len(getattr(points, name)) != p:
                raise key_error(f"points.{name}", f"has {len(getattr(points, name))} values, grid has {p}")
        for names, width in (
            (("load_rps", "p95_ms", "mean_ms", "utilisation"), len(self.microservices)),
            (("e2e_p95_ms", "answered"), len(self.classes)),
        ):
            for name in names:
                table = getattr(points, name)
                if len(table) != p or any(len(row) != width for row in table):
                    raise key_error(f"points.{name}", f"must be {p} rows of {width} values")
        if set(self.graphs) != set(self.classes):
            raise key_error("graphs", f"must have the classes {', '.join(self.classes)}")
        return self

    def column(self, table: Table, index: int) -> NDArray[np.float64]:
        """(P,) one column of a table of `points`."""
        return np.array([row[index] for row in table])


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile; the same profile gives the same bytes."""
    text = json.dumps(profile.model_dump(mode="json"), separators=(",", ":"))
    write_atomically(path, gzip.compress(text.encode(), mtime=0))


def load_profile(path: Path) -> Profile:
    """Read a profile, compressed or not.

    Raises:
        ConfigError: no such file, it is damaged, no profile, or of another format; says what to do.
    """
    again = "make it again with: imbres-gym profile APPLICATION"
    try:
        raw = path.read_bytes()
        data = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such profile; {again}") from None
    except OSError as error:  # damaged gzip data is an OSError too
        raise ConfigError(f"{path}: cannot be read ({error}); {again}") from None
    except (EOFError, ValueError) as error:
        raise ConfigError(f"{path}: damaged ({error}); {again}") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise ConfigError(f"{path}: format: {found!r}, this version reads {FORMAT}; {again}")
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, (*first["loc"], *([first["ctx"]["key"]] if first["type"] == "key" else ()))))
        raise ConfigError(f"{path}: {key}: {first['msg']}; {again}") from None


def find_profile(reference: str, microservices: tuple[str, ...]) -> Profile:
    """The profile that an agent's option `profile` means, for one cluster.

    Args:
        reference: see `imbres_gym.artifacts.find_artifact`.
        microservices: of the cluster.

    Raises:
        ConfigError: there is none, it is damaged, or it is of another application.
    """
    path = find_artifact("profile", reference)
    profile = load_profile(path)
    if profile.microservices != microservices:
        missing = [name for name in microservices if name not in profile.microservices]
        what = f"no microservice {missing[0]!r}" if missing else "other microservices, or another order"
        raise ConfigError(f"profile: {path} is of {profile.application!r}, which has {what}")
    return profile
