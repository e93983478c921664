"""The balancers of today: whoever makes a call picks its container, call by call, by what it has seen itself.

The cluster acts them out (`docs/event-engine.md`, "Balancers"); load proportions stay balanced and do not matter to
them. Whom a caller may pick is the connection plan's.
"""

from __future__ import annotations

from agents.load.balanced import BalancedLoad
from imbres_gym.plan import Balancer


class LeastRequestLoad(BalancedLoad):
    """Of two random containers, that with fewer calls in flight: Envoy's LEAST_REQUEST ("power of two choices")."""

    balancer = Balancer.LEAST_REQUEST


class PeakEwmaLoad(BalancedLoad):
    """Of two random containers, that with the lower moving average of latency times calls in flight: linkerd."""

    balancer = Balancer.PEAK_EWMA


class WeightedRoundRobinLoad(BalancedLoad):
    """In turn, weighted by calls/s over CPU utilisation as the containers report them: gRPC A58."""

    balancer = Balancer.WEIGHTED_ROUND_ROBIN


class PrequalLoad(BalancedLoad):
    """By probes of calls in flight and latency: Prequal (NSDI'24)."""

    balancer = Balancer.PREQUAL
