"""Rules that the tests write; light, as other processes import it, too."""

from __future__ import annotations

from imbres_gym.live.node.rules import MILLION, Destination, Rules, ServiceRule

SERVICE = "127.66.0.1"
"""Stands for a Service's address; it is on the loopback, where nobody answers unless a rule leads elsewhere."""


def spread(*shares: int) -> Rules:
    """Shares of the ports 8081, 8082 ... of connections to the Service."""
    destinations = tuple(Destination("127.0.0.1", 8081 + k, share) for k, share in enumerate(shares) if share)
    return (ServiceRule(SERVICE, 80, destinations),)


WEIGHTED = spread(600_000, 300_000, 100_000)


def large(targets: int) -> Rules:
    """Equal shares of many targets."""
    share, rest = divmod(MILLION, targets)
    destinations = tuple(
        Destination(f"10.244.{k // 250}.{k % 250 + 1}", 8080, share + (k < rest)) for k in range(targets)
    )
    return (ServiceRule("10.96.0.9", 8080, destinations),)
