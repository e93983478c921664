"""The learning curve as a CSV file and as TensorBoard logs, written anew after every segment."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path

from imbres_gym.evaluation.storage import write_atomically

Row = dict[str, float]


def write_curve(rows: Sequence[Row], path: Path) -> None:
    """One line per early evaluation; a number that a row does not have is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    write_atomically(path, text.getvalue().encode())


def write_tensorboard(rows: Sequence[Row], folder: Path) -> None:
    """Logs `evaluation` and `training` with the tags that episodes have, so that both lie in one chart.

    `reward/total`, `reward/PART`, `e2e/NAME`, `cluster/NAME` as in `imbres_gym.evaluation.tensorboard`; `loss/NAME` in
    the log `training`. The step is the number of environment steps. Earlier logs of the run are replaced.
    """
    for log in ("evaluation", "training"):
        own = {"training": ("training/", "loss/"), "evaluation": ("evaluation/",)}[log]
        _write_log([(int(row["steps"]), _tags(row, own)) for row in rows], folder / log)


def _tags(row: Row, prefixes: tuple[str, ...]) -> Row:
    tags: Row = {}
    for name, value in row.items():
        group, _, rest = name.partition("/")
        if not name.startswith(prefixes):
            continue
        if group == "loss":
            tags[name] = value
        elif rest in ("reward", "metrics/reward"):
            tags["reward/total"] = value
        elif rest.startswith("metrics/"):
            metric = rest.removeprefix("metrics/")
            tags[f"e2e/{metric}" if metric.endswith(("_ms", "_violation")) else f"cluster/{metric}"] = value
        else:
            tags[rest] = value
    return tags


def _write_log(points: Sequence[tuple[int, Row]], folder: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = EventFileWriter(str(folder))
    for step, tags in points:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in tags.items()]
        writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
    writer.close()
