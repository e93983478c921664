"""Where containers are in the container table: a hash table, since a plan may have millions of links."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled

Ints = NDArray[np.int64]

EMPTY = -1
SCATTER = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: multiplying by it spreads successive ids (Knuth, TAOCP 3, section 6.4)."""


class ContainerRows:
    """Finds rows of the container table by id.

    Args:
        ids: (N,) int64, id of each row; -1 where a row is unused. Ids are unique.
    """

    def __init__(self, ids: NDArray[np.int64]) -> None:
        self._ids = np.ascontiguousarray(ids)
        # At most half full, so that few places have to be looked at.
        bits = max(2 * len(ids), 2).bit_length()
        self._places = np.full(1 << bits, EMPTY, np.int64)
        _fill(self._places, 64 - bits, self._ids)

    def find(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) int64 row of each wanted id (n,), -1 where there is none."""
        rows = np.empty(len(wanted), np.int64)
        bits = len(self._places).bit_length() - 1
        _find(self._places, 64 - bits, self._ids, np.ascontiguousarray(wanted), rows)
        return rows


@compiled
def _fill(places: Ints, shift: int, ids: Ints) -> None:
    """Open addressing: a row goes to the first free place from that of its id on."""
    for row in range(len(ids)):
        if ids[row] >= 0:
            place = _first_place(ids[row], shift)
            while places[place] != EMPTY:
                place = (place + 1) & (len(places) - 1)
            places[place] = row


@compiled
def _find(places: Ints, shift: int, ids: Ints, wanted: Ints, rows: Ints) -> None:
    for index in range(len(wanted)):
        place = _first_place(wanted[index], shift)
        while places[place] != EMPTY and ids[places[place]] != wanted[index]:
            place = (place + 1) & (len(places) - 1)
        rows[index] = places[place]


@compiled
def _first_place(identity: int, shift: int) -> np.int64:
    """The upper bits of a product modulo 2^64."""
    return np.int64((np.uint64(identity) * np.uint64(SCATTER)) >> np.uint64(shift))
