"""The status of the plans: written when it changes, and once a minute as a sign of life."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from imbres_gym.live.connection_plan import PlanStatus
from imbres_gym.live.node.api import ApiUnavailable, NodeApi
from imbres_gym.live.node.metrics import Metrics
from imbres_gym.live.node.plans import Key

SIGN_OF_LIFE_S = 60.0
"""A status is written again after so long, with a new time (estimate: rare enough for the API server) [s]."""
LONGEST_ERROR = 1000
"""Characters of an error: enough for some pods (estimate); the log has all."""

log = logging.getLogger(__name__)


@dataclass
class _Report:
    status: PlanStatus
    sent_s: float | None = None
    failed: bool = False


class Reports:
    """The status of every plan of this node, and when it was written last.

    Args:
        api: writes.
        metrics: counts failures.
        clock: seconds that never go back.
    """

    def __init__(self, api: NodeApi, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._api = api
        self._metrics = metrics
        self._clock = clock
        self._reports: dict[Key, _Report] = {}
        self._current: set[Key] = set()

    def set(self, plan: Key, status: PlanStatus, *, written: bool) -> None:
        """Say how a plan stands now.

        Args:
            plan: its namespace and name.
            status: its status.
            written: rules were just written, so the time counts as a change.
        """
        if status.error and len(status.error) > LONGEST_ERROR:
            status = status.model_copy(update={"error": f"{status.error[:LONGEST_ERROR]} ..."})
        last = self._reports.get(plan)
        changed = last is None or written or not _same(last.status, status)
        if changed and status.error and (last is None or last.status.error != status.error):
            log.warning("plan %s/%s: %s", *plan, status.error)
        quiet = last is not None and last.sent_s is not None and self._clock() - last.sent_s >= SIGN_OF_LIFE_S
        if changed or quiet:
            self._reports[plan] = _Report(status)
        self._current.add(plan)

    def send(self, again: bool) -> None:
        """Write what is not written yet; plans that were not set since the last time are gone.

        Args:
            again: also try what failed before.
        """
        self._reports = {plan: report for plan, report in self._reports.items() if plan in self._current}
        self._current.clear()
        for plan, report in self._reports.items():
            due = report.sent_s is None and (again or not report.failed)
            if due and not self._send(plan, report):
                return  # the others would only wait for the same answer

    def close(self, error: str) -> None:
        """Report of all plans that nothing is in force."""
        for plan, report in self._reports.items():
            status = report.status.model_copy(update={"applied_at": None, "applied_pods": 0, "error": error})
            if not self._send(plan, _Report(status)):
                return

    def _send(self, plan: Key, report: _Report) -> bool:
        try:
            self._api.report(plan, report.status)
        except ApiUnavailable as error:
            self._metrics.api_failures.inc()
            log.warning("%s", error)
            report.failed = True
            return False
        report.sent_s = self._clock()
        return True


def _same(one: PlanStatus, other: PlanStatus) -> bool:
    """Whether two statuses say the same but for the time."""
    return one.model_copy(update={"applied_at": None}) == other.model_copy(update={"applied_at": None})
