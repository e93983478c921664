"""Files that options of an agent name: trained bundles, profiles and oracles.

A reference is a path (it has the suffix of its kind) or a name below `configs/`. `{application}` and `{scenario}` in it
stand for the names of those that the agent runs in, so that one agent serves all applications.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbres_gym.config import ConfigError, config_root, nearest

if TYPE_CHECKING:
    from imbres_gym.scenario import Scenario

SUFFIXES = {"bundle": (".zip",), "profile": (".json", ".json.gz"), "oracle": (".json",)}
"""Option keys whose value names a file, and what such a file may end in; the files of key K lie in `configs/Ks/`."""

_MAKER = {"bundle": "imbres-gym train", "profile": "imbres-gym profile", "oracle": "imbres-gym oracle"}


def find_artifact(kind: str, reference: str) -> Path:
    """The file that a name or a path means.

    Args:
        kind: a key of `SUFFIXES`.
        reference: path of a file, or its name in `configs/` without suffix.

    Raises:
        ConfigError: there is no such file; says the nearest name, and the command that makes one.
    """
    root = config_root() / f"{kind}s"
    hint = f"or make one with: {_MAKER[kind]}"
    if reference.endswith(SUFFIXES[kind]):
        if Path(reference).is_file():
            return Path(reference)
        raise ConfigError(f"{kind}: {reference}: there is no such file in {Path.cwd()}; correct the path, {hint}")
    for suffix in SUFFIXES[kind]:
        if (root / f"{reference}{suffix}").is_file():
            return root / f"{reference}{suffix}"
    shipped = {
        _without_suffix(kind, path.relative_to(root).as_posix()) for path in root.rglob(f"*{SUFFIXES[kind][0]}*")
    }
    raise ConfigError(f"{kind}: there is no {kind} {reference!r} in {root}; {nearest(reference, shipped)} {hint}")


def scenario_label(reference: str) -> str:
    """The name of a shipped scenario; of a file, its name without folder and suffix.

    A `scenario.yaml`, as `imbres-gym trace` writes it, is called like its folder.
    """
    path = Path(reference)
    if path.suffix not in {".yaml", ".yml"}:
        return reference
    return path.stem if path.stem != "scenario" else path.parent.name or path.stem


def fill_names(options: Any, scenario: Scenario) -> Any:
    """The options of an agent, with `{application}` and `{scenario}` replaced in names of files."""
    if isinstance(options, dict):
        return {key: _filled(key, value, scenario) for key, value in options.items()}
    if isinstance(options, list):
        return [fill_names(value, scenario) for value in options]
    return options


def content_hashes(options: Any) -> dict[str, str]:
    """SHA-256 of every file that the options name, by kind and reference; the names are filled in already.

    Raises:
        ConfigError: a file is missing or cannot be read.
    """
    return {f"{kind} {reference}": _content(find_artifact(kind, reference)) for kind, reference in _references(options)}


def _filled(key: str, value: Any, scenario: Scenario) -> Any:
    if key not in SUFFIXES or not isinstance(value, str):
        return fill_names(value, scenario)
    return value.replace("{application}", scenario.application.name).replace(
        "{scenario}", scenario_label(scenario.name)
    )


def _references(options: Any) -> Iterator[tuple[str, str]]:
    """Every (kind, reference) anywhere in nested options."""
    if isinstance(options, dict):
        for key, value in options.items():
            if key in SUFFIXES and isinstance(value, str):
                yield key, value
            else:
                yield from _references(value)
    elif isinstance(options, list):
        for value in options:
            yield from _references(value)


def _content(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None


def _without_suffix(kind: str, name: str) -> str:
    return next((name.removesuffix(s) for s in sorted(SUFFIXES[kind], key=len, reverse=True) if name.endswith(s)), name)
