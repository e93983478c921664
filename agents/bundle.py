"""A trained agent as one file: networks and other arrays, what they were trained for, and how.

A bundle is a zip archive of `bundle.json` and one `.npy` member per array (so that numpy reads it as an npz archive,
too). Loading one runs no code from the file (no pickle) and needs no torch: networks are evaluated with numpy. The same
bundle gives the same bytes.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.network import Network, Normalisation
from imbres_gym import __version__
from imbres_gym.artifacts import find_artifact
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.telemetry import ClusterInfo

FORMAT = 1
"""Version of the file format; a reader takes its own and older ones."""

_HEADER = "bundle.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every member: the earliest that a zip archive can hold."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError, AttributeError, RuntimeError)
"""What zipfile, json and numpy raise on damaged content; RuntimeError where it looks encrypted or exotic."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """What training leaves behind.

    Attributes:
        kind: what can use it: "load", "scaling", "firm", ...
        application: name of the application that it was trained on.
        microservices: their names, in the order of the arrays.
        hosts: number of hosts.
        classes: names of the request classes.
        recipe: how it was trained; anything that JSON holds.
        seeds: name -> seed.
        steps: environment steps of training behind these networks.
        metrics: early evaluation and the like; name -> number.
        networks: name -> network.
        arrays: name -> any other array of numbers.
        version: of the package that wrote it.
    """

    kind: str
    application: str
    microservices: tuple[str, ...]
    hosts: int
    classes: tuple[str, ...]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    steps: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    networks: Mapping[str, Network] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    version: str = __version__

    def require(self, info: ClusterInfo, kind: str, *, hosts: bool = False) -> None:
        """Refuse to be used for something else than what it was trained for.

        Args:
            info: the cluster.
            kind: what the user of the bundle needs.
            hosts: whether the number of hosts must be the same.

        Raises:
            ConfigError: another kind, other microservices, other request classes, or another number of hosts.
        """
        if self.kind != kind:
            raise ConfigError(f"bundle: it is of kind {self.kind!r}, and {kind!r} is needed")
        for what, mine, theirs in (
            ("microservices", self.microservices, info.microservices),
            ("request classes", self.classes, info.classes),
        ):
            if mine != theirs:
                raise ConfigError(
                    f"bundle: it was trained on the application {self.application!r} with the {what} "
                    f"{', '.join(mine)}; this one has {', '.join(theirs)}; train one for it (imbres-gym train)"
                )
        if hosts and self.hosts != len(info.hosts):
            raise ConfigError(
                f"bundle: it was trained on {self.hosts} hosts, this cluster has {len(info.hosts)}; "
                "train one for it (imbres-gym train)"
            )


def save_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle, whole or not at all.

    Raises:
        ValueError: an array holds objects or a number that is not finite, or a name cannot be a file name.
        OSError: it cannot be written; what was there before stays.
    """
    arrays = {f"arrays/{name}": np.asarray(values) for name, values in bundle.arrays.items()}
    networks: dict[str, Any] = {}
    for name, network in bundle.networks.items():
        networks[name], members = _describe(network)
        arrays.update({f"networks/{name}/{member}": values for member, values in members.items()})
    header = {
        "format": FORMAT,
        "version": bundle.version,
        "kind": bundle.kind,
        "application": bundle.application,
        "microservices": list(bundle.microservices),
        "hosts": bundle.hosts,
        "classes": list(bundle.classes),
        "recipe": dict(bundle.recipe),
        "seeds": dict(bundle.seeds),
        "steps": bundle.steps,
        "metrics": dict(bundle.metrics),
        "networks": networks,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, _HEADER, (json.dumps(header, indent=2, allow_nan=False) + "\n").encode())
        for name, values in arrays.items():
            _add(archive, f"{_checked_name(name)}.npy", _array_bytes(name, values))
    write_atomically(path, buffer.getvalue())


def load_bundle(reference: str | Path) -> Bundle:
    """Read a bundle by path or by the name of a shipped one, see `imbres_gym.artifacts.find_artifact`.

    Raises:
        ConfigError: missing, corrupt, cut off, no bundle, or written by a newer version.
    """
    path = find_artifact("bundle", str(reference))
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(_HEADER))
            if header["format"] > FORMAT:
                raise ConfigError(
                    f"bundle: {path}: written by imbres-gym {header['version']} in format {header['format']}; this is "
                    f"{__version__}, which reads up to format {FORMAT}; install the newer version"
                )
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            arrays = {name.removesuffix(".npy"): _read_array(archive, name) for name in names}
        return _assemble(header, arrays)
    except OSError as error:
        raise ConfigError(f"bundle: {path}: cannot be read: {error.strerror or error}") from None
    except _DAMAGE as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"bundle: {path}: not a bundle, or damaged ({error}); copy or train it again") from None


def _describe(network: Network) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """A network as JSON and as arrays by member name."""
    description: dict[str, Any] = {
        "layers": len(network.weights),
        "activation": network.activation,
        "output": network.output,
        "clip": None,
    }
    members: dict[str, NDArray[np.float32]] = {}
    for index, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        members |= {f"weight-{index}": weight, f"bias-{index}": bias}
    if network.normalisation is not None:
        description["clip"] = network.normalisation.clip
        members |= {"mean": network.normalisation.mean, "variance": network.normalisation.variance}
    return description, members


def _assemble(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Bundle:
    return Bundle(
        kind=str(header["kind"]),
        application=str(header["application"]),
        microservices=tuple(header["microservices"]),
        hosts=int(header["hosts"]),
        classes=tuple(header["classes"]),
        recipe=dict(header["recipe"]),
        seeds=dict(header["seeds"]),
        steps=int(header["steps"]),
        metrics=dict(header["metrics"]),
        networks={name: _network(name, described, arrays) for name, described in header["networks"].items()},
        arrays={name.removeprefix("arrays/"): a for name, a in arrays.items() if name.startswith("arrays/")},
        version=str(header["version"]),
    )


def _network(name: str, described: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Network:
    below = f"networks/{name}"
    layers = range(described["layers"])
    normalisation = None
    if described["clip"] is not None:
        normalisation = Normalisation(arrays[f"{below}/mean"], arrays[f"{below}/variance"], float(described["clip"]))
    return Network(
        weights=tuple(arrays[f"{below}/weight-{i}"] for i in layers),
        biases=tuple(arrays[f"{below}/bias-{i}"] for i in layers),
        activation=described["activation"],
        output=described["output"],
        normalisation=normalisation,
    )


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(member, data)


def _checked_name(name: str) -> str:
    if not all(part and part.replace("-", "").replace("_", "").isalnum() for part in name.split("/")):
        raise ValueError(f"{name!r} cannot be the name of an array; use letters, digits, - and _")
    return name


def _array_bytes(name: str, values: NDArray[Any]) -> bytes:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name}: only arrays of numbers can be kept, not of {values.dtype}")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{name}: holds a number that is not finite")
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    values: NDArray[Any] = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
    if not all(math.isfinite(x) for x in (values.min(initial=0), values.max(initial=0))):
        raise ValueError(f"{name} holds a number that is not finite")
    return values
