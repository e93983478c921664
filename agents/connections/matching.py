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
    group: NDArray[np.int64] | None = None,
) -> Links:
    """Connect each group of upstream containers so that all downstream containers receive their shares of its calls.

    Upstream containers in falling order of share meet downstream containers in rising order of share: the strongest
    upstream container serves the weakest downstream one. Two pointers walk along both and each step connects the pair
    at the pointers with what is left of both; what is left is not sorted again. At most n_up + n_down - 1 links for a
    group of n_up containers.

    Args:
        upstream: (N_up,) ids.
        upstream_share: (N_up,) share of the calls that each sends; only ratios within a group matter, and a group
            without any load is treated as balanced.
        downstream: (n_down,) ids.
        downstream_share: (n_down,) share of the calls that each is to receive; any positive scale.
        group: (N_up,) label of each one's group; all are one group if None.

    Returns:
        Links whose weights are shares of the upstream container's own calls (they sum to 1 for each).
    """
    labels = np.zeros(len(upstream), np.int64) if group is None else np.unique(group, return_inverse=True)[1]
    up_order = np.lexsort((upstream, -upstream_share, labels))
    down_order = np.lexsort((downstream, downstream_share))
    sent = _normalised(upstream_share[up_order], labels[up_order])
    received = downstream_share[down_order]
    # Group g lies on [g, g + 1], and there both rows of shares side by side. Every piece between two neighbouring ends
    # belongs to one container of each side: these are the steps of the two pointers, without their rounding errors.
    groups = np.arange(int(labels.max()) + 1)
    up_ends = np.cumsum(sent)
    down_ends = (groups[:, None] + np.cumsum(received) / received.sum()).ravel()
    ends = np.sort(np.concatenate([up_ends, down_ends]))
    starts = np.concatenate([[0.0], ends[:-1]])
    kept = ends - starts > TOLERANCE
    middle = (starts[kept] + ends[kept]) / 2.0
    up = np.minimum(np.searchsorted(up_ends, middle), len(up_ends) - 1)
    down = np.minimum(np.searchsorted(down_ends, middle), len(down_ends) - 1) % len(downstream)
    piece = ends[kept] - starts[kept]
    weight = piece / np.bincount(up, piece, minlength=len(up_ends))[up]
    return Links(upstream[up_order][up], downstream[down_order][down], weight)


def _normalised(share: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shares that sum to 1 in every group, none below `MIN_SHARE` of the load of its group."""
    total = np.bincount(labels, share)
    members = np.bincount(labels)
    loaded = (total > 0.0)[labels]
    sent = np.where(loaded, share / np.where(loaded, total[labels], 1.0), 1.0 / members[labels])
    sent = np.maximum(sent, MIN_SHARE)
    normalised: NDArray[np.float64] = sent / np.bincount(labels, sent)[labels]
    return normalised
