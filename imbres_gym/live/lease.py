"""Leader election by a Lease, so that two controllers never act at once.

As client-go does it: who waits measures by its own monotonic clock how long the Lease has not changed, and never
compares the times inside it with its own, so that skewed clocks do no harm. The leader, too, counts from the moment
before its last successful renewal by its own clock, and stops acting well before anybody may take over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from imbres_gym.live.config import Election

if TYPE_CHECKING:
    from lightkube import Client


class LeadershipLost(Exception):
    """Another controller leads, or may; this one must not act any more."""


def make_identity() -> str:
    """A name for this process that no other one has: also not its own predecessor."""
    return f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"


class Elector:
    """Takes and keeps one Lease.

    Args:
        client: to Kubernetes.
        namespace: of the Lease.
        name: of the Lease.
        identity: of this controller.
        election: times.
        clock: monotonic [s].
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        election: Election,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._election = election
        self._clock = clock
        self._renewed_at: float | None = None
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = 0.0
        self._lost = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def leads(self) -> bool:
        """Whether this controller may act at this moment."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._election.deadline_s

    @property
    def lost(self) -> bool:
        """Whether another controller has taken the Lease from this one: then it is not to come back by itself.

        A leader that only could not renew in time (the API server was away) may lead again if nobody took over.
        """
        return self._lost

    @property
    def holder(self) -> str:
        """Who was seen to hold the Lease last, "" if nobody."""
        return str(self._seen[0] or "") if self._seen else ""

    def try_once(self) -> bool:
        """Take or renew the Lease if that is allowed now; whether this controller holds it afterwards.

        Raises:
            httpx2.HTTPError: the API server does not answer, or refuses.
        """
        from lightkube import ApiError
        from lightkube.resources.coordination_v1 import Lease

        before = self._clock()
        try:
            lease = self._client.get(Lease, self._name, namespace=self._namespace)
        except ApiError as error:
            if error.response.status_code != 404:
                raise
            lease = None
        if lease is not None and not self._is_free(lease, before):
            self._lost = self._renewed_at is not None
            self._renewed_at = None
            return False
        try:
            self._write(lease)
        except ApiError as error:
            if error.response.status_code != 409:  # 409: somebody was faster
                raise
            return False
        self._renewed_at = before
        return True

    def acquire(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Wait until this controller leads, then renew in the background.

        Args:
            waiting: called after every attempt that did not succeed.

        Raises:
            httpx2.HTTPError: at the first attempt: later failures are waited out.
        """
        import httpx2

        leads = self.try_once()
        while not leads:
            waiting()
            self._stop.wait(self._election.retry_s)
            with contextlib.suppress(httpx2.HTTPError):
                leads = self.try_once()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Stop renewing, and let others take over at once; what the API server says to that does not matter."""
        import httpx2
        from lightkube.resources.coordination_v1 import Lease

        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=self._election.deadline_s)
        if not self.leads:
            return
        self._renewed_at = None
        with contextlib.suppress(httpx2.HTTPError):  # it expires by itself
            lease = self._client.get(Lease, self._name, namespace=self._namespace)
            if lease.spec is not None and lease.spec.holderIdentity == self._identity:
                lease.spec.holderIdentity = ""
                self._client.replace(lease)

    def _keep(self) -> None:
        import httpx2

        while not self._stop.wait(self._election.retry_s):
            # Without an answer `leads` turns false by itself, in time, and the next attempt may be in order again.
            with contextlib.suppress(httpx2.HTTPError):
                self.try_once()
            if self._lost:
                return

    def _is_free(self, lease: Any, now_s: float) -> bool:
        """Whether the Lease is this controller's, nobody's, or has not changed for its whole duration."""
        spec = lease.spec
        holder = (spec.holderIdentity if spec else None) or ""
        if holder in ("", self._identity):
            self._seen = (holder,)
            return True
        seen = (holder, spec.renewTime, spec.acquireTime, spec.leaseTransitions)
        if seen != self._seen:
            self._seen, self._seen_at = seen, now_s
            return False
        return now_s - self._seen_at > (spec.leaseDurationSeconds or self._election.duration_s)

    def _write(self, lease: Any | None) -> None:
        from lightkube.models.coordination_v1 import LeaseSpec
        from lightkube.models.meta_v1 import ObjectMeta
        from lightkube.resources.coordination_v1 import Lease

        now = datetime.now(UTC)
        mine = lease is not None and lease.spec is not None and lease.spec.holderIdentity == self._identity
        turns = (lease.spec.leaseTransitions or 0) if lease is not None and lease.spec is not None else 0
        spec = LeaseSpec(
            holderIdentity=self._identity,
            leaseDurationSeconds=max(1, round(self._election.duration_s)),
            acquireTime=lease.spec.acquireTime if mine and lease is not None else now,
            renewTime=now,
            leaseTransitions=turns if mine or lease is None else turns + 1,
        )
        if lease is None:
            metadata = ObjectMeta(name=self._name, namespace=self._namespace)
            self._client.create(Lease(metadata=metadata, spec=spec))
        else:
            lease.spec = spec
            self._client.replace(lease)  # with the resourceVersion that was read: a conflict means somebody was faster
