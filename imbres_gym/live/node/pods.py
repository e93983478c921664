"""Which pods are on this node: asked of the API server when a plan names one that is not known yet."""

from __future__ import annotations

from collections.abc import Callable

from imbres_gym.live.node.api import ApiUnavailable, NodeApi, Pod
from imbres_gym.live.node.metrics import Metrics

LEAST_INTERVAL_S = 2.0
"""Between two lists, so that a plan of strange pods does not flood the API server (estimate) [s]."""


class PodDirectory:
    """Remembers the pods of this node; what is remembered of a pod never changes, so only new ones are asked for.

    Args:
        api: lists the pods.
        metrics: counts failures.
        clock: seconds that never go back.

    Attributes:
        failure: why the last list failed; None if it did not.
    """

    def __init__(self, api: NodeApi, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._api = api
        self._metrics = metrics
        self._clock = clock
        self._pods: dict[str, Pod] | None = None
        self._listed_s: float | None = None
        self.failure: str | None = None

    def find(self, uid: str) -> Pod | None:
        """The pod of this uid; None if it is not on this node, or not known to be."""
        if self._pods is None or uid not in self._pods:
            self._refresh()
        return (self._pods or {}).get(uid)

    def uids(self) -> set[str] | None:
        """The pods that a plan may rule; None as long as they could not be listed."""
        if self._pods is None:
            self._refresh()
        return None if self._pods is None else {uid for uid, pod in self._pods.items() if not pod.hands_off}

    def _refresh(self) -> None:
        now_s = self._clock()
        if self._listed_s is not None and now_s - self._listed_s < LEAST_INTERVAL_S:
            return
        self._listed_s = now_s
        try:
            self._pods = self._api.pods()
            self.failure = None
        except ApiUnavailable as error:
            self.failure = str(error)
            self._metrics.api_failures.inc()
