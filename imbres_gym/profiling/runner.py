"""Runs a profiling in parallel, keeps every finished run at once, and makes a profile of all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from imbres_gym import __version__
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.executor import Executor, WorkerLost
from imbres_gym.profiling.design import MEASURE_S, SETTLE_S, Design
from imbres_gym.profiling.graph import class_graphs
from imbres_gym.profiling.measure import Measurement, attempt
from imbres_gym.profiling.profile import Cost, Points, Profile, Table

DIGITS = 4
"""Significant digits that a profile keeps: more than repeats agree on."""


class RunStore:
    """Finished runs as lines of JSON beside the profile to be; a line that was cut off does not count.

    Args:
        path: the file.
        fingerprint: of the design; the file's first line holds it.
        resume: use the runs that are there.

    Raises:
        ConfigError: there are runs and `resume` is false, or they are of another design.
    """

    def __init__(self, path: Path, fingerprint: str, resume: bool) -> None:
        self._path = path
        self.finished: dict[int, Measurement] = {}
        if not path.exists():
            self._write_line({"fingerprint": fingerprint})
            return
        if not resume:
            raise ConfigError(f"{path} has runs of an unfinished profiling; go on with --resume, or delete it")
        header, *lines = _whole_lines(path)
        if header.get("fingerprint") != fingerprint:
            raise ConfigError(f"{path} has runs of another application, scenario or version; delete it to start anew")
        self.finished = {line.pop("run"): Measurement(**line) for line in lines}

    def add(self, index: int, measurement: Measurement) -> None:
        """Keep a finished run; it is on disk when this returns."""
        self.finished[index] = measurement
        self._write_line({"run": index, **measurement.as_dict()})

    def remove(self) -> None:
        """Delete the file, once the profile is written."""
        self._path.unlink()

    def _write_line(self, data: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(data) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a store, its header first; what a crash left unfinished at the end is cut off the file."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        with path.open("r+b") as file:
            file.truncate(len(whole.encode()))
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise ConfigError(f"{path}: damaged ({error}); delete it to start anew") from None
    return lines or [{}]


def run_profiling(
    design: Design, store: RunStore, executor: Executor, on_finished: Callable[[Measurement | str], None]
) -> list[str]:
    """Do every run that the store lacks.

    Args:
        design: all runs.
        store: takes each as soon as it is finished.
        executor: runs them; the results do not depend on it.
        on_finished: called for each run, with what went wrong if it failed.

    Returns:
        What went wrong, one message per failed run.
    """
    runs = design.runs()
    missing = [index for index in range(len(runs)) if index not in store.finished]
    failures: list[str] = []
    with closing(executor.run(attempt, [runs[index] for index in missing])) as outcomes:
        for position, outcome in outcomes:
            if isinstance(outcome, Measurement):
                store.add(missing[position], outcome)
                on_finished(outcome)
                continue
            message = f"its process died ({outcome.cause})" if isinstance(outcome, WorkerLost) else outcome.details
            failures.append(f"run {missing[position]}: {message}")
            on_finished(failures[-1])
    return failures


def make_profile(design: Design, finished: dict[int, Measurement]) -> Profile:
    """The profile of a design of which all runs are finished."""
    application, repeats = design.scenario.application, len(design.seeds)
    order = [finished[index] for index in range(len(design.points) * repeats)]
    groups = [order[start : start + repeats] for start in range(0, len(order), repeats)]

    def table(name: str, statistic: Callable[..., Any]) -> Table:
        rows = [statistic([getattr(run, name) for run in group], axis=0) for group in groups]
        return tuple(tuple(_short(value) for value in row) for row in rows)

    def vector(name: str) -> tuple[float, ...]:
        return tuple(_short(float(np.mean([getattr(run, name) for run in group]))) for group in groups)

    points = Points(
        grid=tuple((cpu, bandwidth) for cpu, bandwidth, _ in design.points),
        load=tuple(load for _, _, load in design.points),
        cpu=vector("cpu"),
        memory_bandwidth=vector("memory_bandwidth"),
        load_rps=table("load_rps", np.mean),
        p95_ms=table("p95_ms", np.median),
        mean_ms=table("mean_ms", np.mean),
        utilisation=table("utilisation", np.mean),
        e2e_p95_ms=table("e2e_p95_ms", np.median),
        answered=table("answered", np.mean),
    )
    hours = (SETTLE_S + MEASURE_S) / 3600.0
    return Profile(
        version=__version__,
        application=application.name,
        scenario=design.scenario.name,
        microservices=application.microservice_names,
        classes=application.class_names,
        reference_rps=design.reference_rps,
        replicas=tuple(design.replicas[name] for name in application.microservice_names),
        network=_short(design.network),
        connections=design.connections,
        seeds=design.seeds,
        graphs=class_graphs(application, design.scenario.effects.store_shape),
        points=points,
        cost=Cost(
            runs=len(order),
            simulated_hours=_short(hours * len(order)),
            container_hours=_short(hours * sum(run.containers for run in order)),
            cpu_s=_short(sum(run.cpu_s for run in order)),
        ),
    )


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
