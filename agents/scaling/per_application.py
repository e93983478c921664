"""Imbres' per-application scaling: Algorithm 2 of the paper (section 4.3.1, ASPLOS'25).

Symbols: W load of the application [1/s], R its containers, P = W / R, L tail E2E latency [ms], eta learning rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """What one scaling interval showed.

    Attributes:
        P: load-resource ratio [1/s per container].
        L: tail E2E latency [ms].
    """

    P: float
    L: float


@dataclass(frozen=True)
class StepSizes:
    """Options of Algorithm 2; the defaults are the paper's, but for `limit`.

    Attributes:
        eta1: learning rate of Newton's step.
        eta2: learning rate of the first-order step.
        beta: least relative change of latency for Newton's step.
        limit: whether one step keeps P between half and twice its value. The paper has no bound, but Newton's step can
            make P negative, and the first-order step grows without bound as L goes to 0.
    """

    eta1: float = 0.5
    eta2: float = 0.2
    beta: float = 0.1
    limit: bool = True


def scale_application(
    R: int, L: float, SLA: float, W: float, last: Measured | None, steps: StepSizes, bounds: tuple[int, int]
) -> int:
    """Algorithm 2: by how many containers the application grows (or shrinks).

    Args:
        R: containers now, >= 1.
        L: p95 of the E2E latency over the interval, > 0 [ms].
        SLA: its target [ms].
        W: requests/s that arrived, > 0.
        last: what the previous scaling interval really was (not what was aimed at); None at the first.
        steps: learning rates.
        bounds: least and largest number of containers of the application.

    Returns:
        dR, an integer: Algorithm 3 hands out whole containers, and its loop ends only at exactly zero.
    """
    P = W / R  # line 3
    if last is not None and (L - last.L) * (P - last.P) > 0.0 and abs(L - last.L) / L >= steps.beta:  # line 5
        dP = steps.eta1 * (P - last.P) * (SLA - L) / (L - last.L)  # line 6
    else:  # also at the first decision, which has no L_{t-1}
        dP = steps.eta2 * (SLA - L) * P / L  # line 8
    aim = P + dP  # line 9
    if steps.limit:
        aim = min(max(aim, P / 2.0), 2.0 * P)
    least, most = bounds
    # Line 10, rounded up so that P does not exceed its aim; a ratio that is not positive asks for all there is.
    wanted = math.ceil(W / aim - 1e-9) if aim > W / most else most
    return min(max(wanted, least), most) - R  # line 11
