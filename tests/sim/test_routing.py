"""What becomes of the connections to containers that are gone."""

from __future__ import annotations

import numpy as np
import pytest

from imbres_gym.plan import ConnectionPlan, Links
from imbres_gym.sim.routing import Routing, build_routing, count_ready
from imbres_gym.sim.state import DRAINING, READY, SLOT

UPSTREAM, DOWNSTREAM = 0, 1
HOSTS = 2


def route(gone: tuple[int, ...], links: list[tuple[int, int, float]], proportions: list[float]) -> Routing:
    """Two callers (slots 0 and 1), four downstream containers (slots 2 to 5, alternately on two hosts)."""
    slots = np.zeros(6, SLOT)
    slots["id"] = np.arange(6)
    slots["life"] = READY
    slots["life"][list(gone)] = DRAINING
    slots["microservice"][2:] = DOWNSTREAM
    slots["host"] = np.arange(6) % HOSTS
    upstream, downstream, weight = zip(*links, strict=True)
    plan = ConnectionPlan({0: Links(np.array(upstream), np.array(downstream), np.array(weight))})
    shares = np.array([[0.5, 0.5], proportions])
    return build_routing(slots, ((UPSTREAM, DOWNSTREAM),), shares, count_ready(slots, (2, HOSTS)), plan)


def shares_of(routing: Routing, caller: int) -> dict[int, float]:
    """Downstream slot -> share of a caller's calls."""
    low, high = routing.routes.low[0, caller], routing.routes.high[0, caller]
    weights = np.diff(routing.routes.cdf[low:high], prepend=0.0)
    return {int(t): float(w) for t, w in zip(routing.routes.target[low:high], weights / weights.sum(), strict=True)}


def test_the_share_of_a_lost_link_goes_by_the_load_proportions() -> None:
    """Caller 0 keeps 0.6 on slot 2; the 0.4 of slot 3 go to 2, 4 (host 0: 0.25 each) and 5 (host 1: 0.5)."""
    routing = route((3,), [(0, 2, 0.6), (0, 3, 0.4), (1, 4, 0.5), (1, 5, 0.5)], [0.5, 0.5])
    assert shares_of(routing, 0) == pytest.approx({2: 0.6 + 0.4 * 0.25, 4: 0.4 * 0.25, 5: 0.4 * 0.5})
    assert shares_of(routing, 1) == pytest.approx({4: 0.5, 5: 0.5})
    assert routing.connections[0] == 5 and len(np.unique(routing.links)) == len(routing.links) == 5
    # Half of the load each: caller 0 (host 0) sends 0.8 of it to host 0; caller 1 (host 1) sends half to each.
    assert routing.pair_share[0] == pytest.approx(np.array([[0.4, 0.1], [0.25, 0.25]]))


def test_a_caller_without_any_link_left_uses_all_containers() -> None:
    """Its calls go by the load proportions, from the pool."""
    routing = route((2, 3), [(0, 2, 0.5), (0, 3, 0.5), (1, 4, 1.0)], [0.3, 0.7])
    assert routing.routes.low[0, 0] == routing.routes.high[0, 0]
    assert routing.connections[0] == 2 + 1
    assert shares_of(routing, 1) == {4: 1.0}
