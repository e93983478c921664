"""TensorBoard logs of episodes, written without importing torch; the tags are those of `imbres_gym.evaluation.tags`."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.metrics import METRICS
from imbres_gym.evaluation.tags import scalars
from imbres_gym.evaluation.task import slug

_CHARTS = {
    "load, capacity and SLA": {
        "latency and SLA: p95 of 60 s, slowest class [ms]": "e2e/(window_p95_ms|sla_ms)",
        "load and estimated capacity [requests/s]": "cluster/(workload_rps|capacity_rps)",
    },
    "what it costs": {
        "containers": "cluster/containers",
        "connections opened and closed per step": "cluster/connection_churn",
    },
    "how it is controlled": {
        "variance of load over containers, relative": "cluster/load_variance",
        "decision time [ms]": "decision/total_ms",
    },
}
"""Category -> chart -> regular expression of its tags, on TensorBoard's page CUSTOM SCALARS."""


def write_logs(results: Sequence[EpisodeResult], folder: Path, figures: Sequence[Path] = ()) -> None:
    """Write one log per episode (`SCENARIO/AGENT/seed-N`), one with the figures, and the list of hyperparameters.

    The step of a scalar is the simulated time in seconds. The settled metrics are `metric/NAME` at the last step, and
    with the agent's options they fill TensorBoard's HPARAMS page; CUSTOM SCALARS has curves that belong together in one
    chart. Logs of the same episodes are replaced.
    """
    hyperparameters = [_hyperparameters(result) for result in results]
    for result, options in zip(results, hyperparameters, strict=True):
        _write_episode(result, options, folder / result.scenario / slug(result.agent) / f"seed-{result.seed}")
    if results:
        _write_overview(list(dict.fromkeys(name for options in hyperparameters for name in options)), folder)
    if figures:
        _write_figures(figures, folder / "figures")


class EventLog:
    """An event file in an otherwise empty log folder."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = EventFileWriter(str(folder))

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.close()

    def flush(self) -> None:
        """Write what was added, for those who watch."""
        self._writer.flush()

    def add(self, summary: Any, step: int = 0) -> None:
        """Append one summary message."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append the finite ones of some scalars."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        finite = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if np.isfinite(value)]
        self.add(Summary(value=finite), step)


def _write_episode(result: EpisodeResult, options: dict[str, str | float | bool], folder: Path) -> None:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    tags = scalars(result)
    steps = np.rint(result.series["time_s"]).astype(int)
    with EventLog(folder) as log:
        # Seeds of one agent and scenario share a trial, so that the HPARAMS page shows one line for them.
        log.add(hparams_pb(options, trial_id=f"{result.scenario}/{result.agent}"))
        for row, step in enumerate(steps):
            log.add_scalars({tag: float(values[row]) for tag, values in tags.items()}, int(step))
        final = {f"metric/{name}": value for name, value in result.metrics["settled"].items()}
        log.add_scalars(final, int(steps[-1]))


def _write_overview(hyperparameters: list[str], folder: Path) -> None:
    """Tell the HPARAMS page which columns there are, and CUSTOM SCALARS which charts."""
    from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb

    with EventLog(folder) as log:
        metrics = [Metric(f"metric/{name}", display_name=name) for name in METRICS]
        log.add(hparams_config_pb([HParam(name) for name in hyperparameters], metrics))
        log.add(_charts())


def _charts() -> Any:
    """The layout of `_CHARTS` as a summary; TensorBoard's own function for it needs TensorFlow."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    categories = [
        layout_pb2.Category(
            title=category,
            chart=[
                layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{tags}$"]))
                for title, tags in charts.items()
            ],
        )
        for category, charts in _CHARTS.items()
    ]
    layout = layout_pb2.Layout(category=categories).SerializeToString()
    tensor = TensorProto(dtype=DT_STRING, string_val=[layout], tensor_shape=TensorShapeProto())
    tag = metadata.CONFIG_SUMMARY_TAG
    return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata.create_summary_metadata())])


def _write_figures(figures: Sequence[Path], folder: Path) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    with EventLog(folder) as log:
        for path in figures:
            png = path.read_bytes()
            width, height = struct.unpack(">II", png[16:24])
            image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
            log.add(Summary(value=[Summary.Value(tag=path.stem, image=image)]))


def _hyperparameters(result: EpisodeResult) -> dict[str, str | float | bool]:
    """The agent's configuration, flat."""
    flat: dict[str, str | float | bool] = {"scenario": result.scenario, "agent": result.agent}
    _flatten("", result.agent_config.get("options", {}), flat)
    return flat


def _flatten(prefix: str, value: Any, flat: dict[str, str | float | bool]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{prefix}.{key}" if prefix else str(key), inner, flat)
    else:
        flat[prefix] = value if isinstance(value, (bool, int, float)) else str(value)
