"""What balancers of single calls remember: record arrays that compiled code mutates (`balancers`, `prequal`).

A *client* is whoever picks a container: an upstream container for each microservice that it calls, and one gateway for
each entry microservice. A *link* is a downstream container that a client may pick; links are numbered as the places of
`Routes.target`, those of one client in a row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.plan import Balancer

BALANCERS = (
    Balancer.WEIGHTED,
    Balancer.LEAST_REQUEST,
    Balancer.PEAK_EWMA,
    Balancer.WEIGHTED_ROUND_ROBIN,
    Balancer.PREQUAL,
)
WEIGHTED, LEAST_REQUEST, PEAK_EWMA, WEIGHTED_ROUND_ROBIN, PREQUAL = range(len(BALANCERS))
"""`Routes.balancer`: the place of a balancer in `BALANCERS`."""

DEFAULT_LATENCY_MS = 30.0
"""Peak-EWMA's estimate for a container that has not answered yet [ms]: linkerd's default_rtt."""

POOL = 16
"""Probe answers that a Prequal client keeps (NSDI'24, section 4)."""
TRAVELLING = 32
"""Probes of a client that may be under way at a time; more are not sent. Estimate."""
RECENT_RIFS = 64
"""Last probe answers whose calls in flight give the limit between hot and cold. Estimate."""
MAX_RIF = 63
"""Calls in flight that a client tells apart in that limit. Estimate."""
RIF_BUCKETS = 32
"""Numbers of calls in flight for which a server remembers latencies apart; larger ones share the last. Estimate."""
RECENT_LATENCIES = 7
"""Latencies that a server remembers of each; an odd number has a median. Estimate."""

LINK = np.dtype(
    [
        ("active", "i4"),  # calls of this client in flight
        ("latency", "f8"),  # moving average [ms] at the time `updated` [ms]
        ("updated", "f8"),
        ("weight", "f8"),  # in the round robin
        ("turn", "f8"),  # virtual time of the next turn there; NaN before the first
        ("report", "f8"),  # weight by the last load report, 0 if there was none
        ("reported", "f8"),  # when that was [s]
        ("since", "f8"),  # since when there have been reports [s], inf: not at all
    ]
)

CLIENT = np.dtype(
    [
        ("turn", "f8"),  # virtual time of the round robin
        ("answers", "i4"),  # in its pool
        ("travelling", "i4"),  # probes under way
        ("remove_worst", "i4"),  # whether the next answer to be removed is the worst, not the oldest
        ("rifs", "i8"),  # calls in flight that probes have told so far
    ]
)

PROBE = np.dtype(
    [
        ("link", "i4"),  # -1: the link is gone
        ("rif", "i4"),  # calls in flight at the server
        ("latency", "f8"),  # its estimate [ms]
        ("received", "f8"),  # by the client [ms]
        ("uses", "i4"),  # left
    ]
)

CALL = np.dtype([("link", "i4"), ("rif", "i4"), ("arrived", "f8")])
"""Of a span: the link it was sent on (-1 if that is gone), the calls in flight when it arrived, and when that was [ms]
(-1 if not known)."""


class Balancing(NamedTuple):
    """What clients know; everything is empty where weights decide, and what a balancer does not use stays as it is."""

    links: NDArray[np.void]
    clients: NDArray[np.void]
    pool: NDArray[np.void]  # (clients, POOL) probe answers
    travelling: NDArray[np.void]  # (clients, TRAVELLING) probes under way
    rifs: NDArray[np.int16]  # (clients, RECENT_RIFS) of the last answers, a ring
    rif_counts: NDArray[np.int16]  # (clients, MAX_RIF + 1) how often each is in the ring
    calls: NDArray[np.void]  # (spans,)
    served: NDArray[np.int64]  # (slots, 2) calls answered and errors among them since the last tick
    latencies: NDArray[np.float64]  # (slots, RIF_BUCKETS, RECENT_LATENCIES, 2) latency and when it was measured, rings
    latency_counts: NDArray[np.int64]  # (slots, RIF_BUCKETS) latencies ever remembered


def new_balancing(n_links: int = 0, n_clients: int = 0, n_spans: int = 0, n_slots: int = 0) -> Balancing:
    """Clients that know nothing yet, and spans that were sent on no link."""
    links = np.zeros(n_links, LINK)
    links["latency"] = DEFAULT_LATENCY_MS
    links["weight"] = 1.0
    links["turn"] = np.nan
    links["reported"] = -np.inf
    links["since"] = np.inf
    calls = np.zeros(n_spans, CALL)
    calls["link"] = -1
    calls["arrived"] = -1.0
    return Balancing(
        links=links,
        clients=np.zeros(n_clients, CLIENT),
        pool=np.zeros((n_clients, POOL), PROBE),
        travelling=np.zeros((n_clients, TRAVELLING), PROBE),
        rifs=np.zeros((n_clients, RECENT_RIFS), np.int16),
        rif_counts=np.zeros((n_clients, MAX_RIF + 1), np.int16),
        calls=calls,
        served=np.zeros((n_slots, 2), np.int64),
        latencies=np.zeros((n_slots, RIF_BUCKETS, RECENT_LATENCIES, 2)),
        latency_counts=np.zeros((n_slots, RIF_BUCKETS), np.int64),
    )


def forget_server(balancing: Balancing, slot: int) -> None:
    """Another container has the slot now."""
    balancing.served[slot : slot + 1] = 0
    balancing.latency_counts[slot : slot + 1] = 0
