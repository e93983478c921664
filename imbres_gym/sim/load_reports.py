"""Weights of the round robin from the load reports of containers, as gRPC computes them (gRFC A58)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.sim.balancing import Balancing
from imbres_gym.sim.clients import Directory

Floats = NDArray[np.float64]

BLACKOUT_S = 10.0
"""A container's weight counts when it has reported for this long [s]: A58, blackout_period."""
EXPIRATION_S = 180.0
"""Without a report for this long [s] a weight is forgotten: A58, weight_expiration_period."""
ERROR_PENALTY = 1.0
"""What the share of errors adds to the utilisation: A58, error_utilization_penalty."""


def take_reports(balancing: Balancing, directory: Directory, utilisation: Floats, seconds: float, now_s: float) -> None:
    """Every container reports to its clients what it did in the last seconds; weights follow at once.

    The weight is qps / (utilisation + ERROR_PENALTY * eps / qps) with all calls answered and the errors among them; a
    container without calls, or without CPU use, sends no report that counts.

    Args:
        balancing: its links are changed, and its counts of calls start anew.
        directory: whose links they are.
        utilisation: (slots,) CPU use over the quota.
        seconds: length of the period reported.
        now_s: time in the episode.
    """
    calls, errors = balancing.served.T.astype(np.float64)
    balancing.served[:] = 0
    counts = (calls > 0) & (utilisation > 0.0)
    penalised = utilisation + ERROR_PENALTY * np.divide(errors, calls, out=np.zeros_like(calls), where=counts)
    weight = np.divide(calls / seconds, penalised, out=np.zeros_like(calls), where=counts)
    links, new = balancing.links, weight[directory.slots]
    came = new > 0.0
    links["report"][came] = new[came]
    links["since"][came] = np.minimum(links["since"][came], now_s)
    links["reported"][came] = now_s
    refresh_weights(balancing, directory, now_s)


def refresh_weights(balancing: Balancing, directory: Directory, now_s: float) -> None:
    """Weights in use: a missing one is the mean of the client's others; with fewer than two, all are alike.

    The time to a link's next turn is stretched as its weight shrinks, so that no link loses its place.
    """
    links, client_of = balancing.links, directory.client_of
    links["since"][now_s - links["reported"] >= EXPIRATION_S] = np.inf
    usable = now_s - links["since"] >= BLACKOUT_S
    size = len(balancing.clients)
    count = np.bincount(client_of, usable, size)
    total = np.bincount(client_of, np.where(usable, links["report"], 0.0), size)
    mean = np.divide(total, count, out=np.ones(size), where=count >= 2)
    weight = np.where(usable & (count >= 2)[client_of], links["report"], mean[client_of])
    now = balancing.clients["turn"][client_of]
    links["turn"] = now + (links["turn"] - now) * links["weight"] / weight
    links["weight"] = weight
