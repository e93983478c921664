"""What keeps a wrong decision small and a blind controller still."""

from __future__ import annotations

import math

from imbres_gym.live.config import Safety


def bounded_replicas(current: int, ready: int, wanted: int, bounds: tuple[int, int], safety: Safety) -> tuple[int, str]:
    """The replica count that one decision may lead to, and which bound changed it ("" if none did).

    Growing is measured by the containers that are ready: those that never get ready (no room on the nodes, a crash at
    start) must not call for ever more of their kind.

    Args:
        current: replicas that the Deployment wants now.
        ready: containers that take requests.
        wanted: what the agent decided.
        bounds: least and most replicas.
        safety: bounds of one step.
    """
    low, high = bounds
    inside = min(max(wanted, low), high)
    reason = "" if inside == wanted else "min/max"
    if inside > current:
        most = max(math.ceil(safety.max_scale_out * ready), ready + 1, current)
        if inside > most:
            return most, "max_scale_out"
    elif inside < current:
        least = current - max(1, math.floor(safety.max_scale_in_share * current))
        if inside < least:
            return least, "max_scale_in_share"
    return inside, reason


class Guard:
    """Says whether the controller may decide now; counts failures in a row.

    Args:
        safety: when it freezes and thaws.
    """

    def __init__(self, safety: Safety) -> None:
        self._safety = safety
        self._failures = 0
        self._healthy = 0
        self._frozen = False

    @property
    def frozen(self) -> bool:
        """Whether it failed so often that it must first be healthy again for a while."""
        return self._frozen

    def record(self, failed: bool) -> None:
        """One control interval in which acting failed, or not."""
        self._failures = self._failures + 1 if failed else 0
        self._healthy = 0 if failed else self._healthy + 1
        if self._failures >= self._safety.freeze_after:
            self._frozen = True
        elif self._frozen and self._healthy >= self._safety.thaw_after:
            self._frozen = False
