"""The learning curve as a CSV file and as TensorBoard logs, written anew after every segment."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.evaluation.tags import metric_tag
from imbres_gym.evaluation.tensorboard import EventLog

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

    The tags are those of `imbres_gym.evaluation.tags.step_scalars` that a row has a number for; and `loss/NAME` in the
    log `training`. The step is the number of environment steps. Earlier logs of the run are replaced.
    """
    for name, prefixes in (("evaluation", ("evaluation/",)), ("training", ("training/", "loss/"))):
        with EventLog(folder / name) as log:
            for row in rows:
                own = {_tag(key): value for key, value in row.items() if key.startswith(prefixes)}
                log.add_scalars(own, int(row["steps"]))


def _tag(key: str) -> str:
    """The tag of a number in a row: `evaluation/metrics/p95_ms` is `e2e/p95_ms`."""
    group, _, name = key.partition("/")
    if group == "loss":
        return key
    if name == "reward" or name.startswith("metrics/"):
        return metric_tag(name.removeprefix("metrics/"))
    return name
