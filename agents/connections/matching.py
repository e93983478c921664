"""Matching of load shares: which upstream container serves which downstream container, with few connections.

The heuristic of Imbres section 4.2.2 (ASPLOS'25). What depends on one microservice only, the order of its containers
and their ends on a line, is computed once for all its pairs (`Senders`, `Receivers`); a pair is a walk along both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled
from imbres_gym.plan import Links

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TOLERANCE = 1e-9
"""Shares of the load below this are rounding errors: no connection is made for them."""
MIN_SHARE = 1e-6
"""Share that an upstream container without load counts as, so that it is connected too."""


@dataclass(frozen=True)
class Senders:
    """Upstream containers in the order of their groups, in each in falling order of share.

    Attributes:
        ids: (n,) container ids.
        ends: (n,) where each one's share ends: group g lies on [g, g + 1], its shares side by side.
        groups: number of groups.
    """

    ids: Ints
    ends: Floats
    groups: int


@dataclass(frozen=True)
class Receivers:
    """Downstream containers in rising order of share.

    Attributes:
        ids: (n,) container ids.
        ends: (n,) where each one's share ends on [0, 1].
    """

    ids: Ints
    ends: Floats


def order_senders(ids: Ints, share: Floats, group: Ints | None = None) -> Senders:
    """Line up the upstream containers of a pair.

    Args:
        ids: (n,) container ids.
        share: (n,) share of the calls that each sends; only ratios within a group matter, and a group without any load
            is treated as balanced.
        group: (n,) each one's group: 0, 1, ... without gaps; all are one group if None.
    """
    labels = np.zeros(len(ids), np.int64) if group is None else group
    order = np.lexsort((ids, -share, labels))
    sent = _normalised(share[order], labels[order])
    return Senders(ids[order], np.cumsum(sent), int(labels.max()) + 1)


def order_receivers(ids: Ints, share: Floats) -> Receivers:
    """Line up the downstream containers of a pair.

    Args:
        ids: (n,) container ids.
        share: (n,) share of the calls that each is to receive; any positive scale.
    """
    order = np.lexsort((ids, share))
    received = share[order]
    return Receivers(ids[order], np.cumsum(received) / received.sum())


def match(senders: Senders, receivers: Receivers) -> Links:
    """Connect each group of upstream containers so that all downstream containers receive their shares of its calls.

    The strongest upstream container of a group serves the weakest downstream ones. Two pointers walk along both rows
    and each step connects the pair at the pointers with what is left of both; what is left is not sorted again. At most
    n_up + n_down - 1 links for a group of n_up containers.

    Returns:
        Links whose weights are shares of the upstream container's own calls (they sum to 1 for each).
    """
    up, down, weight = _walk(senders.ids, senders.ends, senders.groups, receivers.ids, receivers.ends)
    return Links(up, down, weight)


@compiled
def _walk(up_ids: Ints, up_ends: Floats, groups: int, down_ids: Ints, down_ends: Floats) -> tuple[Ints, Ints, Floats]:
    """The links of a pair: upstream id, downstream id and weight of each.

    Every piece of the line between two neighbouring ends belongs to one container of each side. Positions, not what is
    left, are compared: so rounding errors do not add up along the walk.
    """
    n_up, n_down = len(up_ends), len(down_ends)
    most = n_up + groups * n_down
    up, down, weight = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most)
    count = first = u = d = group = 0
    start = piece = total = 0.0
    while u < n_up:
        # Beyond the last end of either side there is nothing but rounding errors, which its last container takes.
        up_end = up_ends[u]
        down_end = group + down_ends[d] if group < groups else np.inf
        end = min(up_end, down_end)
        piece = end - start
        if piece > TOLERANCE:
            up[count], down[count], weight[count] = up_ids[u], down_ids[d], piece
            total += piece
            count += 1
        start = max(start, end)
        if up_end <= down_end:
            for link in range(first, count):
                weight[link] /= total
            first, total = count, 0.0
            u += 1
        elif d + 1 < n_down:
            d += 1
        else:
            group += 1
            d = 0 if group < groups else d
    return up[:count], down[:count], weight[:count]


def _normalised(share: Floats, labels: Ints) -> Floats:
    """Shares that sum to 1 in every group, none below `MIN_SHARE` of the load of its group."""
    total = np.bincount(labels, share)
    members = np.bincount(labels)
    loaded = (total > 0.0)[labels]
    sent = np.where(loaded, share / np.where(loaded, total[labels], 1.0), 1.0 / members[labels])
    sent = np.maximum(sent, MIN_SHARE)
    normalised: Floats = sent / np.bincount(labels, sent)[labels]
    return normalised
