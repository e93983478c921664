"""The compiled part of `imbres_gym.critical_path`: from the roots down the spans that were waited for."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def walk(  # type: ignore[no-untyped-def]
    roots, begin, order, start_s, end_s
):
    """Mark the spans on the path of every root; children of span i are `order[begin[i] : begin[i + 1]]`."""
    on_path = np.zeros(len(start_s), np.bool_)
    stack = np.empty(len(start_s), np.int64)
    for root in roots:
        stack[0] = root
        size = 1
        while size > 0:
            size -= 1
            span = stack[size]
            on_path[span] = True
            before_s = end_s[span]  # later ones are background work
            for position in range(begin[span], begin[span + 1]):
                child = order[position]
                if end_s[child] <= before_s:
                    before_s = start_s[child]
                    stack[size] = child
                    size += 1
    return on_path
