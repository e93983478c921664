"""The connection plans as the API server has them: listed once, then watched; listed again when a watch fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imbres_gym.live.connection_plan import RENEWED
from imbres_gym.live.kube import plan_resource

if TYPE_CHECKING:
    from lightkube import Client
    from lightkube.generic_resource import GenericNamespacedResource

WATCH_S = 60
"""Time after which the API server ends a watch and lightkube begins the next [s]."""
SILENCE_S = 90.0
"""After so long without an event the plans are listed to see whether the watch has missed one [s]."""
LEAST_WAIT_S, MOST_WAIT_S = 0.2, 5.0
"""Wait after a failure: doubled from the least to the most (estimate: half a controller's usual renewals) [s]."""
GONE = 410
"""HTTP status: the API server has forgotten the version from which a watch was to go on."""

Key = tuple[str, str]
"""Namespace and name of a plan."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredPlan:
    """One `ConnectionPlan` of the API server; its spec is not validated yet."""

    namespace: str
    name: str
    uid: str
    generation: int
    renewed: str | None
    spec: Any = field(compare=False)

    @property
    def key(self) -> Key:
        """What names it in the cluster."""
        return self.namespace, self.name


class PlanWatch:
    """Keeps a copy of all plans of the cluster, in a thread of its own.

    A node has no selector of its own for plans: with one plan per application and node, an agent sees the renewals of
    all nodes, a few small messages a second at the sizes of the paper (17 hosts).

    Args:
        connect: makes a client; each thread has its own, so that a watch that hangs blocks nothing else.
        count_failure: called whenever the list or the watch failed, with the reason in one word.

    Attributes:
        changed: set whenever the copy has changed; the reader clears it.
    """

    def __init__(self, connect: Callable[[], Client], count_failure: Callable[[str], None]) -> None:
        self._connect = connect
        self._resource = plan_resource()
        self._count_failure = count_failure
        self._lock = threading.Lock()
        self._plans: dict[Key, StoredPlan] | None = None
        self._stopped = threading.Event()
        self._heard = time.monotonic()
        self.changed = threading.Event()

    def start(self) -> None:
        """Begin to list and watch."""
        threading.Thread(target=self._run, args=(self._stopped,), name="plan-watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer; the thread ends with the program at the latest."""
        self._stopped.set()

    def plans(self) -> list[StoredPlan] | None:
        """All plans by namespace and name; None as long as they have never been listed."""
        with self._lock:
            return None if self._plans is None else [self._plans[key] for key in sorted(self._plans)]

    def revive(self) -> None:
        """After a long silence, see whether the watch hangs (a connection that died without a word), and replace it."""
        if time.monotonic() - self._heard < SILENCE_S or self._stopped.is_set():
            return
        try:
            with self._connect() as client:
                _, listed = self._list(client)
        except Exception as error:  # no answer, however strange, may end the agent's main loop
            log.warning("plans: silent for %.0f s, and cannot be listed: %s", SILENCE_S, error)
            return
        if time.monotonic() - self._heard < SILENCE_S:
            return  # an event came meanwhile
        if listed == {plan.key: plan for plan in self.plans() or ()}:
            self._heard = time.monotonic()
            return
        log.warning("plans: the watch missed a change; starting another")
        self._count_failure("silent")
        self._stopped.set()
        self._stopped = threading.Event()
        self._heard = time.monotonic()
        self.start()

    def _run(self, stopped: threading.Event) -> None:
        wait_s = LEAST_WAIT_S
        with self._connect() as client:
            while not stopped.is_set():
                try:
                    version, plans = self._list(client)
                    self._take(plans, stopped)
                    wait_s = LEAST_WAIT_S
                    self._follow(client, version, stopped)
                except Exception as error:  # a thread that ended without a word would be worse than any error
                    if stopped.is_set():
                        return
                    self._heard = time.monotonic()
                    reason = _reason(error)
                    self._count_failure(reason)
                    wait_s = LEAST_WAIT_S if reason == "expired" else min(2.0 * wait_s, MOST_WAIT_S)
                    log.warning("plans: %s: %s; trying again in %.1f s", reason, error, wait_s)
                    stopped.wait(wait_s)

    def _list(self, client: Client) -> tuple[str, dict[Key, StoredPlan]]:
        """The version from which to watch, and all plans."""
        from lightkube import ALL_NS

        listing = client.list(self._resource, namespace=ALL_NS)
        plans = [_stored(item) for item in listing]
        return listing.resourceVersion, {plan.key: plan for plan in plans}

    def _follow(self, client: Client, version: str, stopped: threading.Event) -> None:
        """Take over changes until the watch fails or is not wanted any more."""
        from lightkube import ALL_NS

        events = client.watch(self._resource, namespace=ALL_NS, resource_version=version, server_timeout=WATCH_S)
        for event, item in events:
            if stopped.is_set():
                return
            plan = _stored(item)
            with self._lock:
                plans = dict(self._plans or {})
            plans.pop(plan.key, None)
            if event != "DELETED":
                plans[plan.key] = plan
            self._take(plans, stopped)

    def _take(self, plans: dict[Key, StoredPlan], stopped: threading.Event) -> None:
        with self._lock:
            if stopped.is_set():
                return
            self._plans = plans
            self._heard = time.monotonic()
        self.changed.set()


def _reason(error: Exception) -> str:
    """A failure in one word, for the metrics."""
    import httpx2
    from lightkube.core.exceptions import ApiError

    if isinstance(error, ApiError):
        return "expired" if error.status.code == GONE else "refused"
    if isinstance(error, httpx2.HTTPStatusError):
        return "expired" if error.response.status_code == GONE else "refused"
    return "unreachable" if isinstance(error, httpx2.HTTPError) else "unreadable"


def _stored(item: GenericNamespacedResource) -> StoredPlan:
    metadata = item.metadata
    assert metadata is not None, "the API server sends no object without metadata"
    return StoredPlan(
        namespace=metadata.namespace or "",
        name=metadata.name or "",
        uid=metadata.uid or "",
        generation=metadata.generation or 0,
        renewed=(metadata.annotations or {}).get(RENEWED),
        spec=item.get("spec"),
    )
