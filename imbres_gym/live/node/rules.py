"""What is to be in force in one pod's network namespace, in the one form that both backends write and read back."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from imbres_gym.live.connection_plan import PodRules, ServiceRules

MILLION = 1_000_000
"""Shares are whole millionths: finer than 10,000 connections can show, and both backends read them back exactly."""


@dataclass(frozen=True)
class Destination:
    """One downstream pod and its share of the new connections [millionths]."""

    ip: str
    port: int
    share: int


@dataclass(frozen=True)
class ServiceRule:
    """How new TCP connections to one Service's address and port are spread; the shares add up to a million."""

    cluster_ip: str
    port: int
    destinations: tuple[Destination, ...]


Rules = tuple[ServiceRule, ...]
"""All rules of a pod; none at all means that nothing of ours is in its namespace."""


@dataclass(frozen=True)
class Found:
    """What a backend reads in a network namespace.

    Attributes:
        rules: those in force; None if what is there cannot have been written by this agent.
        hooks: how often new connections are led to them: 0 means that they have no effect, 1 is right.
        exists: whether anything of ours is there, even if without effect.
    """

    rules: Rules | None
    hooks: int
    exists: bool

    def are(self, wanted: Rules) -> bool:
        """Whether exactly the wanted rules are in force."""
        return self.rules == wanted and self.hooks == (1 if wanted else 0) and self.exists == bool(wanted)


NOTHING = Found(rules=(), hooks=0, exists=False)


def rules_of(pod: PodRules) -> Rules:
    """The rules that a plan asks for in one pod.

    Raises:
        ValueError: an address is not IPv4.
    """
    return tuple(_rule(service) for service in pod.services)


def whole_shares(weights: list[float]) -> list[int]:
    """Weights as millionths that add up to a million, by largest remainders (of equal ones the first).

    Args:
        weights: > 0; only their ratios matter.
    """
    # Divided by the largest first, as a sum of huge weights would be infinite.
    largest = max(weights)
    scaled = [weight / largest for weight in weights]
    total = sum(scaled)
    exact = [MILLION * weight / total for weight in scaled]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(shares)), key=lambda k: shares[k] - exact[k])
    for k in by_remainder[: MILLION - sum(shares)]:
        shares[k] += 1
    return shares


def _rule(service: ServiceRules) -> ServiceRule:
    for address in (service.cluster_ip, *(target.ip for target in service.targets)):
        if not isinstance(address, IPv4Address):
            raise ValueError(f"{address} is not an IPv4 address; only those can be planned")
    shares = whole_shares([target.weight for target in service.targets])
    destinations = tuple(
        Destination(str(target.ip), target.port, share)
        for target, share in zip(service.targets, shares, strict=True)
        if share > 0
    )
    return ServiceRule(str(service.cluster_ip), service.port, destinations)
