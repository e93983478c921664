"""Matching of load shares: which upstream container serves which downstream container, with few connections.

The heuristic of Imbres section 4.2.2 (ASPLOS'25).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import Links

TOLERANCE = 1e-9
"""Shares of the load below this are rounding errors: no connection is made for them."""
MIN_SHARE = 1e-6
"""Share that an upstream container without load counts as, so that it is connected too."""


def match(
    upstream: NDArray[np.int64],
    upstream_share: NDArray[np.float64],
    downstream: NDArray[np.int64],
    downstream_share: NDArray[np.float64],
) -> Links:
    """Connect one group of upstream containers so that all downstream containers receive their shares of its calls.

    Upstream containers in falling order of share meet downstream containers in rising order of share: the strongest
    upstream container serves the weakest downstream one. Two pointers walk along both and each step connects the pair
    at the pointers with what is left of both; what is left is not sorted again. At most n_up + n_down - 1 links.

    Args:
        upstream: (n_up,) ids of the group.
        upstream_share: (n_up,) share of the group's calls that each sends; any positive scale.
        downstream: (n_down,) ids.
        downstream_share: (n_down,) share of the calls that each is to receive; any positive scale.

    Returns:
        Links whose weights are shares of the upstream container's own calls (they sum to 1 for each).
    """
    up_order = np.lexsort((upstream, -upstream_share))
    down_order = np.lexsort((downstream, downstream_share))
    sent = np.maximum(upstream_share[up_order] / upstream_share.sum(), MIN_SHARE)
    received = downstream_share[down_order]
    # Both rows of shares are laid side by side on [0, 1]. Every piece between two neighbouring ends belongs to one
    # container of each side: these are the steps of the two pointers, without their rounding errors.
    up_ends = np.cumsum(sent) / sent.sum()
    down_ends = np.cumsum(received) / received.sum()
    ends = np.sort(np.concatenate([up_ends, down_ends]))
    starts = np.concatenate([[0.0], ends[:-1]])
    kept = ends - starts > TOLERANCE
    middle = (starts[kept] + ends[kept]) / 2.0
    up = np.minimum(np.searchsorted(up_ends, middle), len(up_ends) - 1)
    down = np.minimum(np.searchsorted(down_ends, middle), len(down_ends) - 1)
    piece = ends[kept] - starts[kept]
    weight = piece / np.bincount(up, piece, minlength=len(up_ends))[up]
    return Links(upstream[up_order][up], downstream[down_order][down], weight)


def join(parts: list[Links]) -> Links:
    """The links of several groups as one."""
    return Links(
        np.concatenate([part.upstream for part in parts]),
        np.concatenate([part.downstream for part in parts]),
        np.concatenate([part.weight for part in parts]),
    )
