"""TensorBoard's log of a live run, written as it goes; the tags are those of an episode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imbres_gym.evaluation.tags import step_scalars
from imbres_gym.telemetry import ClusterInfo, Telemetry


class Board:
    """Adds one step at a time; its number is the time since the start in seconds.

    Beside the tags of `imbres_gym.evaluation.tags` there is `live/held`: 1 where the last plan is held.

    Args:
        folder: of the log; None for no log.
        info: names and SLA.
    """

    def __init__(self, folder: Path | None, info: ClusterInfo) -> None:
        self._info = info
        self._log: Any = None
        if folder is not None:
            from imbres_gym.evaluation.tensorboard import EventLog

            self._log = EventLog(folder)

    def add(self, telemetry: Telemetry, info: Mapping[str, Any], decision_ms: Mapping[str, float], held: bool) -> None:
        """One step.

        Args:
            telemetry: of the step's last control interval.
            info: of the environment's step.
            decision_ms: wall-clock time of the decision, "total" and of the agent's tiers if it says so.
            held: whether the last plan is held.
        """
        if self._log is None:
            return
        tags = step_scalars(info)
        tags["e2e/sla_ms"] = self._info.sla_ms
        tags["live/held"] = float(held)
        counts = (telemetry.ready + telemetry.pending).sum(axis=1)
        tags.update({f"replicas/{name}": float(n) for name, n in zip(self._info.microservices, counts, strict=True)})
        tags.update({f"decision/{tier}_ms": value for tier, value in decision_ms.items()})
        self._log.add_scalars(tags, round(telemetry.time_s))
        self._log.flush()

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
