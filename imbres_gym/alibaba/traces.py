"""Requests of a call graph table: which call was made by which, when, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

STORE_KINDS = {"mc", "db"}
"""Calls of memcached and of databases."""
ASYNCHRONOUS = "mq"
"""Messages in a queue: nobody waits for them, and they are left out."""
MISSING = {"", "(?)", "nan", "none", "null", "unknown", "unavailable"}
"""Names (in small letters) that say that a microservice is not known."""
UNKNOWN_INTERFACE = "call"

Row = tuple[int, str, str, str | None, str | None, str | None, float]
"""timestamp [ms], rpc id, kind, upstream, interface, downstream, rt [ms]; rt is negative where the callee
recorded it."""


@dataclass(frozen=True, order=True)
class Callee:
    """Who is called."""

    name: str
    interface: str
    is_store: bool


@dataclass
class CallRecord:
    """One call of a request, or several with the same id."""

    callee: Callee
    start_ms: float
    end_ms: float
    times: int
    rpc: str
    children: list[CallRecord] = field(default_factory=list)


def known(name: str | None) -> bool:
    """Whether a name says who it is."""
    return name is not None and name.lower() not in MISSING


def build_trace(rows: Iterable[Row]) -> CallRecord | None:
    """The tree of one request; None where its entry is not known or is no call of a microservice.

    A call belongs to the longest shorter id that is there (0.1.2 to 0.1, else to 0). The entry is the call with the
    shortest id, the earliest of them; calls that do not hang below it are left out.
    """
    records: dict[str, list[CallRecord]] = {}
    for record in _records(rows):
        records.setdefault(record.rpc, []).append(record)
    if not records:
        return None
    root_id = min(records, key=lambda rpc: (rpc.count("."), records[rpc][0].start_ms))
    root = min(records[root_id], key=lambda record: record.start_ms)
    if root.callee.is_store:
        return None
    for rpc, calls in records.items():
        caller = _caller(rpc, records)
        if rpc == root_id or caller is None:
            continue
        # Ids that were given twice to different calls (alibaba/clusterdata#124): their own calls go to the first.
        records[caller][0 if caller != root_id else records[caller].index(root)].children += calls
    return root


def _caller(rpc: str, records: dict[str, list[CallRecord]]) -> str | None:
    while "." in rpc:
        rpc = rpc.rpartition(".")[0]
        if rpc in records:
            return next((rpc for record in records[rpc] if not record.callee.is_store), None)
    return None


def _records(rows: Iterable[Row]) -> Iterator[CallRecord]:
    """One record for each (id, callee): remote calls are written down twice, by caller and callee."""
    by_rpc: dict[str, list[Row]] = {}
    for row in rows:
        if row[2] != ASYNCHRONOUS:
            by_rpc.setdefault(row[1], []).append(row)
    for rpc, group in by_rpc.items():
        by_callee: dict[Callee, list[Row]] = {}
        names = sorted({row[5] for row in group if row[5] is not None and known(row[5])})
        for row in group:
            # One side may not know the callee, the other does.
            name = row[5] if known(row[5]) else (names[0] if len(names) == 1 else None)
            if name is not None:
                interface = row[4] if known(row[4]) else None
                is_store = row[2] in STORE_KINDS
                by_callee.setdefault(Callee(name, interface or UNKNOWN_INTERFACE, is_store), []).append(row)
        for callee, same in by_callee.items():
            yield _record(callee, same, rpc)


def _record(callee: Callee, rows: Sequence[Row], rpc: str) -> CallRecord:
    by_caller = [row for row in rows if row[6] >= 0.0]
    seen = by_caller or rows
    times = len(rows) if callee.is_store else max(len(by_caller), len(rows) - len(by_caller))
    start = min(row[0] for row in seen)
    end = max(row[0] + abs(row[6]) for row in seen)
    return CallRecord(callee, float(start), float(end), times, rpc)
