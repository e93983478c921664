"""Where the performance table keeps its values: arrays for all microservices, and the loops over them, compiled.

A *row* belongs to one microservice at one interference (a code of its bins). It has one entry per load bin that was
seen, in the order of appearance; the *curve* of a row is what look-ups interpolate: the entries by rising load, with
latencies that do not fall. The entries of all rows share arrays, in which each row has some places side by side; a row
that needs more moves to twice as many at the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.jit import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FLOOR_MS = 0.001
"""Least latency that an extrapolation returns [ms]: the resolution of Jaeger's spans, one microsecond."""
LEAST_ROOM = 4
"""Places of a new row: the paper's bins up to the maximum load."""
ROWS, PLACES = 0, 1
"""Positions in `Store.used`."""
UNASKED = -2
"""Stands for a row that was not looked for yet."""


class Store(NamedTuple):
    """Entries and curves of M microservices, K interference codes, R rows and E places.

    Attributes:
        row: (M, K) int32, -1 where nothing is known.
        used: (2,) int64, rows and places in use.
        start: (R,) int64, first place of a row.
        room: (R,) int64, its places.
        size: (R,) int64, its entries.
        current: (R,) bool, whether its curve is that of the entries.
        load_bin: (E,) int64, the key of an entry in its row.
        load_rps: (E,) float64, running mean of the load in a bin [1/s per container].
        latency_ms: (E,) float64, running mean of the tail latency.
        curve_rps, curve_ms: (E,) float64, rising loads and their latencies.
    """

    row: NDArray[np.int32]
    used: Ints
    start: Ints
    room: Ints
    size: Ints
    current: NDArray[np.bool_]
    load_bin: Ints
    load_rps: Floats
    latency_ms: Floats
    curve_rps: Floats
    curve_ms: Floats


def empty_store(microservices: int, codes: int) -> Store:
    """A store without entries."""
    return _with_room(np.full((microservices, codes), -1, np.int32), rows=microservices, places=8 * microservices)


def add(
    store: Store, microservice: Ints, code: Ints, load_bin: Ints, load: Floats, latency: Floats, rate: float
) -> Store:
    """Move the running means of some bins towards new samples, one after the other.

    Args:
        store: is changed, and of no further use where another one is returned.
        microservice: (n,) index.
        code: (n,) interference code.
        load_bin: (n,) bin of the load.
        load: (n,) load per container [1/s].
        latency: (n,) tail latency [ms].
        rate: weight of a new sample.

    Returns:
        The store, a larger one if there was not enough room.
    """
    done = _add(store, microservice, code, load_bin, load, latency, rate, 0)
    while done < len(microservice):
        store = _grown(store)
        done = _add(store, microservice, code, load_bin, load, latency, rate, done)
    return store


def look_up(store: Store, bins: int, microservice: Ints, code: Ints, load: Floats) -> Floats:
    """Tail latencies [ms] at loads per container [1/s]; 0 where nothing is known of the microservice.

    Args:
        store: its outdated curves are made anew.
        bins: of each kind of interference; a code has one digit to this base for each.
        microservice: (n,) index.
        code: (n,) interference code.
        load: (n,) load per container [1/s].
    """
    latency = np.empty(len(load))
    _look_up(store, bins, microservice, code, load, latency)
    return latency


def interference_codes(interference: Floats, limit: float, bins: int) -> Ints:
    """(n,) bins of equal width from 0 to a limit, of all kinds of interference as one number.

    Args:
        interference: (n, kinds) utilisation [0-1]; what lies above the limit belongs to the last bin.
        limit: where the last bin ends.
        bins: of each kind: the base of the number, whose first digit is the first kind.
    """
    codes = np.zeros(len(interference), np.int64)
    _fill_codes(np.ascontiguousarray(interference), limit, bins, codes)
    return codes


def _with_room(row: NDArray[np.int32], rows: int, places: int) -> Store:
    return Store(
        row=row,
        used=np.zeros(2, np.int64),
        start=np.zeros(rows, np.int64),
        room=np.zeros(rows, np.int64),
        size=np.zeros(rows, np.int64),
        current=np.zeros(rows, np.bool_),
        load_bin=np.zeros(places, np.int64),
        load_rps=np.zeros(places),
        latency_ms=np.zeros(places),
        curve_rps=np.zeros(places),
        curve_ms=np.zeros(places),
    )


def _grown(store: Store) -> Store:
    """The same entries with twice the room: for rows if all are in use, or else for entries."""
    rows, places = len(store.size), len(store.load_bin)
    full = int(store.used[ROWS]) == rows
    larger = _with_room(store.row, 2 * rows if full else rows, places if full else 2 * places)
    for old, new in zip(store[1:], larger[1:], strict=True):
        new[: len(old)] = old
    return larger


@compiled
def _add(
    store: Store,
    microservice: Ints,
    code: Ints,
    load_bin: Ints,
    load: Floats,
    latency: Floats,
    rate: float,
    done: int,
) -> int:
    """Add the samples from number `done` on; how many are done when the room ends."""
    for sample in range(done, len(microservice)):
        row = store.row[microservice[sample], code[sample]]
        if row < 0:
            if store.used[ROWS] == len(store.size):
                return sample
            row = store.used[ROWS]
            store.used[ROWS] += 1
            store.row[microservice[sample], code[sample]] = row
        entry = 0
        while entry < store.size[row] and store.load_bin[store.start[row] + entry] != load_bin[sample]:
            entry += 1
        if entry == store.room[row] and not _moved(store, row):
            return sample
        place = store.start[row] + entry
        if entry == store.size[row]:
            store.size[row] += 1
            store.load_bin[place] = load_bin[sample]
            store.load_rps[place] = load[sample]
            store.latency_ms[place] = latency[sample]
        else:
            store.load_rps[place] += rate * (load[sample] - store.load_rps[place])
            store.latency_ms[place] += rate * (latency[sample] - store.latency_ms[place])
        store.current[row] = False
    return len(microservice)


@compiled
def _moved(store: Store, row: int) -> bool:
    """Give a row twice as many places; false if there are not enough."""
    start, room, new = store.start[row], max(2 * store.room[row], LEAST_ROOM), store.used[PLACES]
    if new + room > len(store.load_bin):
        return False
    for entry in range(store.size[row]):
        store.load_bin[new + entry] = store.load_bin[start + entry]
        store.load_rps[new + entry] = store.load_rps[start + entry]
        store.latency_ms[new + entry] = store.latency_ms[start + entry]
    store.start[row], store.room[row] = new, room
    store.used[PLACES] += room
    return True


@compiled
def _fill_codes(interference: Floats, limit: float, bins: int, codes: Ints) -> None:
    for sample in range(len(codes)):
        for kind in range(interference.shape[1]):
            share = min(max(interference[sample, kind] / limit, 0.0), 1.0)
            # Observations are float32: the small addition keeps 0.6 in the bin that starts there.
            codes[sample] = codes[sample] * bins + min(int(np.floor(share * bins + 1e-6)), bins - 1)


@compiled
def _look_up(store: Store, bins: int, microservice: Ints, code: Ints, load: Floats, latency: Floats) -> None:
    """All look-ups; which rows answer for a code is remembered as long as the microservice is the same."""
    answers = np.empty((store.row.shape[1], 2), np.int64)
    for query in range(len(load)):
        i, key = microservice[query], code[query]
        if query == 0 or i != microservice[query - 1]:
            answers[:] = UNASKED
        if answers[key, 0] == UNASKED:
            answers[key] = _rows_for(store, bins, i, key)
        latency[query] = _latency(store, answers[key, 0], answers[key, 1], load[query])


@compiled
def _rows_for(store: Store, bins: int, microservice: int, code: int) -> tuple[int, int]:
    """The row of an interference or of the closest one, and the row that lends it the slope; -1 where there is none.

    Eq. (4) needs two loads. Where only one is known, the closest interference with two says how latency changes with
    load; a constant would say that containers are of no use to this microservice.
    """
    rows = store.row[microservice]
    if rows[code] < 0:
        code = _closest(store, bins, rows, code, 1)
    if code < 0:
        return -1, -1
    _update_curve(store, rows[code])
    other = code if store.size[rows[code]] > 1 else _closest(store, bins, rows, code, 2)
    if other < 0:
        return rows[code], -1
    _update_curve(store, rows[other])
    return rows[code], rows[other]


@compiled
def _latency(store: Store, row: int, other: int, load: float) -> float:
    """One look-up in a row, with the slope of another one if that is not the same."""
    if row < 0:
        return 0.0
    latency: float = store.curve_ms[store.start[row]]
    if other == row:
        latency = _interpolate(store, row, load)
    elif other >= 0:
        change = _interpolate(store, other, load) - _interpolate(store, other, store.curve_rps[store.start[row]])
        latency = max(latency + change, FLOOR_MS)
    return latency


@compiled
def _closest(store: Store, bins: int, rows: NDArray[np.int32], code: int, least_size: int) -> int:
    """The code with at least so many entries at the least Euclidean distance in bins; -1 if there is none.

    Of several the most interfered, as the safe guess: by the sum of the bins, then by the first of them.
    """
    best, best_distance, best_sum = -1, 0, 0
    for other in range(len(rows)):
        if rows[other] < 0 or store.size[rows[other]] < least_size:
            continue
        distance = total = 0
        mine, theirs = code, other
        while mine > 0 or theirs > 0:
            difference = mine % bins - theirs % bins
            distance += difference * difference
            total += theirs % bins
            mine //= bins
            theirs //= bins
        # Codes rise with the first bin, so of equals the last one is taken.
        if best < 0 or distance < best_distance or (distance == best_distance and total >= best_sum):
            best, best_distance, best_sum = other, distance, total
    return best


@compiled
def _update_curve(store: Store, row: int) -> None:
    """Sort the entries by load, and make latencies the nearest non-falling sequence (least squares).

    Noise must not make latency fall with load: the gain of one more container, eq. (5), could be negative. Pool
    adjacent violators.
    """
    if store.current[row]:
        return
    start, size = store.start[row], store.size[row]
    loads, values = store.curve_rps[start : start + size], store.curve_ms[start : start + size]
    for entry in range(size):  # insertion sort
        load, place = store.load_rps[start + entry], entry
        while place > 0 and loads[place - 1] > load:
            loads[place], values[place] = loads[place - 1], values[place - 1]
            place -= 1
        loads[place], values[place] = load, store.latency_ms[start + entry]
    members = np.empty(size, np.int64)
    pools = 0
    for entry in range(size):
        mean, count = values[entry], 1
        while pools > 0 and values[pools - 1] > mean:
            pools -= 1
            other = members[pools]
            mean = (mean * count + values[pools] * other) / (count + other)
            count += other
        values[pools], members[pools] = mean, count
        pools += 1
    end = size
    for pool in range(pools - 1, -1, -1):
        mean = values[pool]
        for entry in range(end - members[pool], end):
            values[entry] = mean
        end -= members[pool]
    store.current[row] = True


@compiled
def _interpolate(store: Store, row: int, load: float) -> float:
    """Eq. (4), corrected: phi(w_m) + (phi(w_n) - phi(w_m)) (w - w_m) / (w_n - w_m).

    The printed equation lacks the first term. A hit is interpolated as well: were it the value of its bin, phi would
    be a staircase, and the gain of one container, eq. (5), almost always zero. w_m and w_n are the mean loads stored
    in the two nearest bins; beyond the outermost the line through the last two goes on, not below `FLOOR_MS`.
    """
    start, size = store.start[row], store.size[row]
    loads, values = store.curve_rps[start : start + size], store.curve_ms[start : start + size]
    n = 1
    while n < size - 1 and loads[n] < load:
        n += 1
    m = n - 1
    latency: float = values[n]
    if loads[n] > loads[m]:
        slope = (values[n] - values[m]) / (loads[n] - loads[m])
        latency = max(values[m] + slope * (load - loads[m]), FLOOR_MS)
    return latency
