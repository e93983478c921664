"""Erms' interference-aware placement: containers go where they even out the utilisation of the hosts.

Erms (Luo et al., ASPLOS'23; artifact `onlineScheduling/placementOptimization.py`) minimises the sum over hosts of
(u_h - mean u)^2 as a quadratic program with random rounding. Here each container in turn goes to the host that makes
this sum smallest, which needs no rounding. It counts CPU; the artifact's second resource, memory size, has no part in
this simulator's interference, and memory bandwidth is used by best-effort jobs alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CAPACITY_SHARE = 0.9
"""Share of a host's cores that containers may request (artifact)."""


def place_evenly(
    counts: NDArray[np.int64],
    use_cores: NDArray[np.float64],
    request_cores: NDArray[np.float64],
    background: NDArray[np.float64],
    host_cores: float,
) -> NDArray[np.int64]:
    """Where each container should be.

    Adding the same to any host raises the sum of squares least on the least utilised one, so that is where it goes.
    The containers that use most come first, those of one microservice one after another.

    Args:
        counts: (M,) containers of each microservice.
        use_cores: (M,) CPU that one of them uses [cores].
        request_cores: (M,) its quota [cores].
        background: (H,) CPU utilisation of the hosts by everything else [0-1].
        host_cores: cores of a host.

    Returns:
        (M, H) containers; rows sum to `counts`, but for those that no host has room for.
    """
    placement = np.zeros((len(counts), len(background)), np.int64)
    utilisation = background.astype(np.float64)
    requested = np.zeros(len(background))
    for m in np.argsort(-use_cores, kind="stable"):
        for _ in range(counts[m]):
            fits = requested + request_cores[m] <= CAPACITY_SHARE * host_cores + 1e-9
            if not fits.any():
                break
            host = int(np.argmin(np.where(fits, utilisation, np.inf)))
            placement[m, host] += 1
            utilisation[host] += use_cores[m] / host_cores
            requested[host] += request_cores[m]
    return placement
