"""Closing established connections of changed rules, slowly: rules act on new connections only.

A kept-alive HTTP, gRPC or Thrift connection stays with its pod until it is closed, whatever the weights. The kernel
can close it (`ss --kill`): both ends see an error, a call in flight on it fails, and a client that opens another
connection follows the new weights. So this is off by default, and bounded.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from imbres_gym.live.node.metrics import Metrics
from imbres_gym.live.node.namespaces import Command, CommandFailed, Namespaces, NoNamespace
from imbres_gym.live.node.rules import Rules

MOST_WAITING = 1000
"""Connections of one pod that wait to be closed; the rest is left alone (estimate)."""
LIST = ("ss", "--tcp", "--numeric", "--no-header", "state", "established")
KILL = ("ss", "--kill", *LIST[1:])

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Connection:
    local: str
    peer: str

    @property
    def filter(self) -> str:
        """For `ss`: this connection and no other."""
        (source, source_port), (target, target_port) = (end.rsplit(":", 1) for end in (self.local, self.peer))
        return f"( src {source} and sport = {source_port} and dst {target} and dport = {target_port} )"


class Drain:
    """Closes the connections that were established before a change, the first listed first.

    Args:
        per_second: connections to close in a second on this node, >= 1.
        namespaces: where.
        metrics: counts them.
        clock: seconds that never go back.
    """

    def __init__(self, per_second: int, namespaces: Namespaces, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._namespaces = namespaces
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[str, deque[_Connection]] = {}
        self._allowance = 0.0
        self._last_s = clock()

    def begin(self, uid: str, old: Rules, new: Rules) -> None:
        """Note the connections of a pod to the Services whose rules have just changed.

        What still waits from the last change of the same pod is dropped: if it is still open, it is listed again.
        """
        changed = [rule for rule in new if rule not in old]
        if not changed:
            return
        filters = (f"( dst {rule.cluster_ip} and dport = {rule.port} )" for rule in changed)
        lines = self._ss(uid, (*LIST, " or ".join(filters)))
        # Columns: bytes received and sent that wait, this end, the other end.
        connections = [_Connection(*line.split()[2:4]) for line in lines]
        self._waiting[uid] = deque(connections[:MOST_WAITING])

    def step(self) -> None:
        """Close as many as the time since the last step allows, one second's worth at most."""
        now_s = self._clock()
        self._allowance = min(self._allowance + self._per_second * (now_s - self._last_s), float(self._per_second))
        self._last_s = now_s
        for uid, waiting in list(self._waiting.items()):
            batch = [waiting.popleft() for _ in range(min(int(self._allowance), len(waiting)))]
            self._allowance -= len(batch)
            if batch:
                closed = self._ss(uid, (*KILL, " or ".join(connection.filter for connection in batch)))
                self._metrics.drained.inc(len(closed))
            if not waiting:
                del self._waiting[uid]

    def _ss(self, uid: str, words: tuple[str, ...]) -> list[str]:
        """Lines that `ss` prints in the pod's namespace; none if it fails, as connections may well stay."""
        try:
            with self._namespaces.enter(uid) as namespace:
                return namespace.run(Command(words)).splitlines()
        except (NoNamespace, CommandFailed) as error:
            log.warning("pod %s: connections are not drained: %s", uid, error)
            return []
