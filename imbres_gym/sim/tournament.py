"""What happens next: a tournament tree over times, compiled.

A leaf stands for a container slot or a span, and has the time at which its next event is due, inf for none; a node
holds the leaf that is first below it, the root (node 1) the next event of all. To set a time replays one path. A heap
would need more: a container's next event moves with every burst that comes or goes, which leaves stale entries behind,
and the depth at which an entry comes to rest cannot be predicted; here the path has no branch that depends on data.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.compiled import inlined

ROOT = 1


def tournament(times: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Tree over n times, n a power of two: (2 n,) leaves; node i has the children 2 i and 2 i + 1."""
    size = len(times)
    tree = np.zeros(2 * size, np.uint32)
    tree[size:] = np.arange(size)
    while size > 1:
        left, right = tree[size : 2 * size : 2], tree[size + 1 : 2 * size : 2]
        tree[size // 2 : size] = np.where(times[right] < times[left], right, left)
        size //= 2
    return tree


@inlined
def set_time(times, tree, leaf, time):
    """The next event of a leaf is due at `time`."""
    times[leaf] = time
    winner = leaf
    node = len(times) + leaf
    while node > ROOT:
        rival = tree[node ^ 1]
        rival_time = times[rival]
        if rival_time < time:
            winner = rival
            time = rival_time
        node >>= 1
        tree[node] = winner
