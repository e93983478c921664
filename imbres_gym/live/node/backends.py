"""The ways to write rules, and the choice between them by what the image and the kernel have."""

from __future__ import annotations

import shutil
from typing import Protocol

from imbres_gym.config import ConfigError
from imbres_gym.live.node.iptables import IptablesBackend
from imbres_gym.live.node.namespaces import Command, CommandFailed, Namespace
from imbres_gym.live.node.nftables import NftablesBackend
from imbres_gym.live.node.rules import MILLION, NOTHING, Destination, Found, Rules, ServiceRule

HALF = MILLION // 2
TRIAL: Rules = (
    ServiceRule(
        "192.0.2.1", 80, (Destination("192.0.2.2", 8080, HALF), Destination("192.0.2.3", 8080, MILLION - HALF))
    ),
)
"""Needs all that real rules need of the kernel; the addresses are for documentation (RFC 5737)."""


class Backend(Protocol):
    """Reads and replaces the rules in one network namespace."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def programs(self) -> tuple[str, ...]:
        """What has to be installed."""
        ...

    def read(self, namespace: Namespace) -> Found:
        """What of ours is in the namespace; may raise `CommandFailed`."""
        ...

    def replacement(self, rules: Rules, found: Found) -> Command:
        """The command that replaces what was found by these rules, at once and as a whole; by nothing if none."""
        ...


def all_backends() -> list[Backend]:
    """The fastest first (see `scripts/benchmark_rules.py`)."""
    return [IptablesBackend("legacy"), IptablesBackend("nft"), NftablesBackend()]


def choose_backend() -> Backend:
    """The fastest that works here.

    Raises:
        ConfigError: none works; says why, for each.
    """
    reasons = []
    for backend in all_backends():
        reason = why_not(backend)
        if reason is None:
            return backend
        reasons.append(f"{backend.name}: {reason}")
    raise ConfigError("no way to write rules works here; " + "; ".join(reasons))


def why_not(backend: Backend) -> str | None:
    """Why a backend does not work here, tried in a network namespace that ends with the trial; None if it does."""
    missing = [program for program in ("unshare", "nsenter", *backend.programs) if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        backend.replacement(TRIAL, NOTHING).run("unshare", "--net")
    except CommandFailed as error:
        return str(error)
    return None
