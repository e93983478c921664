"""Scenario folders: `scenario.yaml`, `application.yaml`, and the recorded series that they name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from imbres_gym.application import Application
from imbres_gym.config import ConfigError, validate
from imbres_gym.scenario import Scenario

APPLICATION, SCENARIO = "application.yaml", "scenario.yaml"


def build_scenario(application: Mapping[str, Any], scenario: Mapping[str, Any]) -> Scenario:
    """The scenario of two mappings, without files.

    Raises:
        ConfigError: they are not valid.
    """
    name = str(scenario.get("name", "scenario"))
    built = validate(Application, dict(application), name)
    return validate(Scenario, {**scenario, "application": built}, name)


def require_new(folder: Path) -> None:
    """Refuse to write over a scenario.

    Raises:
        ConfigError: one is there.
    """
    for name in (SCENARIO, APPLICATION):
        if (folder / name).exists():
            raise ConfigError(f"{folder / name} exists already; choose another --out, or delete it")


def write_scenario(
    folder: Path,
    application: Mapping[str, Any],
    scenario: Mapping[str, Any],
    heading: str,
    series: Mapping[str, str] | None = None,
) -> Path:
    """Write a scenario and its application, and check that they are valid together.

    Args:
        folder: is made if it does not exist.
        application: as in the file.
        scenario: as in the file, without the key `application`.
        heading: comment at the top of both files, without the `#`.
        series: name of a recorded file -> its content; the scenario names them.

    Returns:
        The scenario's file.

    Raises:
        ConfigError: one is there already, or they are not valid.
    """
    require_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (series or {}).items():
        (folder / name).write_text(content, encoding="utf-8")
    located = {key: _located(folder, value) for key, value in scenario.items()}
    build_scenario(application, located)
    _dump(folder / APPLICATION, application, heading)
    _dump(folder / SCENARIO, {"application": APPLICATION, **scenario}, heading)
    return folder / SCENARIO


def interference_csv(times_s: NDArray[np.float64], cpu: NDArray[np.float64]) -> str:
    """The file of a replayed interference (`imbres_gym.sim.interference.ReplayInterference`).

    Traces have no memory bandwidth, network or LLC; they are taken equal to the CPU (estimate, as in the other
    scenarios).

    Args:
        times_s: (T,) in the order of time.
        cpu: (T, H) CPU utilisation [0-1].
    """
    lines = ["time_s,host,cpu,memory_bandwidth,network,llc"]
    for time, row in zip(times_s.tolist(), np.clip(cpu, 0.0, 1.0), strict=True):
        lines += [f"{time:g},{host},{u:.3f},{u:.3f},{u:.3f},{u:.3f}" for host, u in enumerate(row.tolist())]
    return "\n".join(lines) + "\n"


def _located(folder: Path, value: Any) -> Any:
    is_recorded = isinstance(value, dict) and "file" in value
    return {**value, "file": folder / value["file"]} if is_recorded else value


def _dump(path: Path, data: Mapping[str, Any], heading: str) -> None:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    body = yaml.dump(dict(data), Dumper=dumper, sort_keys=False, width=118, default_flow_style=None)
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    path.write_text(comment + body, encoding="utf-8")
