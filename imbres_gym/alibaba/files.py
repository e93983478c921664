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


def build_application(data: Mapping[str, Any]) -> Application:
    """The application of its mapping.

    Raises:
        ConfigError: it is not valid.
    """
    return validate(Application, dict(data), str(data.get("name", "application")))


def build_scenario(application: Application, data: Mapping[str, Any]) -> Scenario:
    """The scenario of its mapping.

    Raises:
        ConfigError: it is not valid.
    """
    return validate(Scenario, {**data, "application": application}, str(data.get("name", application.name)))


def require_new(out: Path) -> None:
    """Refuse to write over a scenario.

    Raises:
        ConfigError: one is there.
    """
    for path in [out] if _is_one_file(out) else [out / SCENARIO, out / APPLICATION]:
        if path.exists():
            raise ConfigError(f"{path} exists already; choose another --out, or delete it")


def write_scenario(
    out: Path,
    application: Mapping[str, Any],
    scenario: Mapping[str, Any],
    heading: str,
    series: Mapping[str, str] | None = None,
) -> Path:
    """Write a scenario and its application, and check that they are valid together.

    Args:
        out: folder, made if it does not exist; or, without series, a .yaml file that is to hold both.
        application: as in the file.
        scenario: as in the file, without the key `application`.
        heading: comment at the top, without the `#`.
        series: name of a recorded file -> its content; the scenario names them.

    Returns:
        The scenario's file.

    Raises:
        ConfigError: one is there already, or they are not valid.
    """
    require_new(out)
    if _is_one_file(out):
        build_scenario(build_application(application), scenario)
        out.parent.mkdir(parents=True, exist_ok=True)
        _dump(out, {**scenario, "application": dict(application)}, heading)
        return out
    out.mkdir(parents=True, exist_ok=True)
    for name, content in (series or {}).items():
        (out / name).write_text(content, encoding="utf-8")
    located = {key: _located(out, value) for key, value in scenario.items()}
    build_scenario(build_application(application), located)
    _dump(out / APPLICATION, application, heading)
    _dump(out / SCENARIO, {"application": APPLICATION, **scenario}, heading)
    return out / SCENARIO


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


def _is_one_file(out: Path) -> bool:
    return out.suffix in {".yaml", ".yml"}


def _located(folder: Path, value: Any) -> Any:
    is_recorded = isinstance(value, dict) and "file" in value
    return {**value, "file": folder / value["file"]} if is_recorded else value


def _dump(path: Path, data: Mapping[str, Any], heading: str) -> None:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    body = yaml.dump(dict(data), Dumper=dumper, sort_keys=False, width=118, default_flow_style=None)
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    path.write_text(comment + body, encoding="utf-8")
