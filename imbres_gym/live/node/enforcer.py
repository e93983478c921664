"""Makes a pod's rules the wanted ones: level-triggered, by what was last read or written there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from imbres_gym.live.node.backends import Backend
from imbres_gym.live.node.metrics import Metrics
from imbres_gym.live.node.namespaces import CommandFailed, Namespaces, NoNamespace
from imbres_gym.live.node.rules import Found, Rules

log = logging.getLogger(__name__)


class NotInForce(RuntimeError):
    """The wanted rules of a pod are not in force; the message says why."""


class Enforcer:
    """Reads and writes rules in the network namespaces of pods.

    Args:
        backend: how.
        namespaces: where.
        metrics: counts what is done.
    """

    def __init__(self, backend: Backend, namespaces: Namespaces, metrics: Metrics) -> None:
        self._backend = backend
        self._namespaces = namespaces
        self._metrics = metrics
        self._found: dict[str, Found] = {}
        self._failed: dict[str, tuple[Rules, str]] = {}

    def pods(self) -> Iterable[str]:
        """Uids of the pods that have rules of ours, or may have some after a failure."""
        return {*self._found, *self._failed}

    def enforce(self, uid: str, rules: Rules, *, look: bool) -> Found | None:
        """Put rules in force in a pod; nothing is done where they are known to be.

        Args:
            uid: of the pod.
            rules: wanted; none takes out what is there.
            look: read what is there, even if it is known, and try again what has failed.

        Returns:
            What was replaced; None if nothing had to be.

        Raises:
            NotInForce: it failed, now or with the same rules since the last look.
        """
        if uid in self._failed and not look and self._failed[uid][0] == rules:
            raise NotInForce(self._failed[uid][1])
        if uid in self._found and not look and self._found[uid].are(rules):
            return None
        try:
            replaced = self._enforce(uid, rules, look)
        except (NoNamespace, CommandFailed) as error:
            self._forget(uid)
            if isinstance(error, NoNamespace) and not rules:
                return None  # what is gone needs no clearing
            self._failed[uid] = (rules, str(error))
            self._metrics.updates.labels("failed").inc()
            raise NotInForce(str(error)) from None
        self._failed.pop(uid, None)
        return replaced

    def _enforce(self, uid: str, rules: Rules, look: bool) -> Found | None:
        with self._namespaces.enter(uid) as namespace:
            known = self._found.get(uid)
            found = self._backend.read(namespace) if known is None or look else known
            result = "written" if rules else "removed"
            if known is not None and known != found:
                log.warning("pod %s: the rules were changed by someone else; repairing them", uid)
                result = "repaired"
            if not found.are(rules):
                started = time.perf_counter()
                namespace.run(self._backend.replacement(rules, found))
                self._metrics.update_seconds.observe(time.perf_counter() - started)
                self._metrics.updates.labels(result).inc()
        if rules:
            self._found[uid] = Found(rules=rules, hooks=1, exists=True)
        else:
            self._forget(uid)
        return None if found.are(rules) else found

    def _forget(self, uid: str) -> None:
        self._found.pop(uid, None)
        self._failed.pop(uid, None)
