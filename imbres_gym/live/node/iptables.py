"""Rules as iptables: one chain of our own in the table `nat`, replaced as a whole by `iptables-restore --noflush`.

A restore commits a table in one step, so new connections meet either the old rules or the new ones, and an agent that
is killed half-way leaves the old ones. Every rule but the last of a Service is taken with a probability
(`-m statistic`), given that the rules before it were not: share / (million - shares before it).
No text of a plan gets here, only addresses and numbers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Literal

from imbres_gym.live.node.namespaces import Command, Namespace
from imbres_gym.live.node.rules import MILLION, NOTHING, Destination, Found, Rules, ServiceRule

CHAIN = "IMBRES-GYM"
JUMP = f"OUTPUT -j {CHAIN}"
_RULE = re.compile(
    rf"-A {CHAIN} -d (?P<service>[\d.]+)/32 -p tcp -m tcp --dport (?P<port>\d+)"
    r"(?: -m statistic --mode random --probability (?P<probability>[\d.]+))?"
    r" -j DNAT --to-destination (?P<ip>[\d.]+):(?P<to>\d+)"
)


class IptablesBackend:
    """Writes with the programs of one of the two kinds of iptables.

    Args:
        kind: of the programs `iptables-KIND-restore` and `iptables-KIND-save`.
    """

    def __init__(self, kind: Literal["legacy", "nft"]) -> None:
        self.name = f"iptables-{kind}"
        self.programs = (f"{self.name}-restore", f"{self.name}-save")

    def read(self, namespace: Namespace) -> Found:
        """What of ours is in the namespace."""
        return parse_save(namespace.run(Command((f"{self.name}-save", "-t", "nat"))))

    def replacement(self, rules: Rules, found: Found) -> Command:
        """The command that replaces what was found by these rules."""
        return Command((f"{self.name}-restore", "--noflush", "--wait", "5"), restore_text(rules, found.hooks))


def restore_text(rules: Rules, hooks: int) -> str:
    """Input for `iptables-restore --noflush` that replaces the chain.

    Args:
        rules: to be in force; none removes the chain.
        hooks: jumps to the chain that are there.
    """
    # Naming a chain of one's own makes it if it is missing, and empties it if it is not.
    lines = ["*nat", f":{CHAIN} - [0:0]"]
    if rules:
        lines += [f"-D {JUMP}"] * (hooks - 1) if hooks else [f"-I {JUMP}"]
        lines += (line for rule in rules for line in _lines(rule))
    else:
        lines += [f"-D {JUMP}"] * hooks + [f"-X {CHAIN}"]
    return "\n".join([*lines, "COMMIT", ""])


def parse_save(text: str) -> Found:
    """Read the output of `iptables-save -t nat`."""
    lines = text.splitlines()
    if not any(line.startswith(f":{CHAIN} ") for line in lines):
        return NOTHING
    hooks = sum(line == f"-A {JUMP}" for line in lines)
    return Found(rules=_parse([line for line in lines if line.startswith(f"-A {CHAIN} ")]), hooks=hooks, exists=True)


def _lines(rule: ServiceRule) -> Iterable[str]:
    left = MILLION
    for destination in rule.destinations:
        # The kernel keeps a probability as a multiple of 2^-31, which shows in 11 digits.
        probability = f"{destination.share / left:.11f}"
        chance = "" if destination.share == left else f" -m statistic --mode random --probability {probability}"
        left -= destination.share
        yield (
            f"-A {CHAIN} -d {rule.cluster_ip}/32 -p tcp -m tcp --dport {rule.port}{chance}"
            f" -j DNAT --to-destination {destination.ip}:{destination.port}"
        )


def _parse(lines: list[str]) -> Rules | None:
    matches = [_RULE.fullmatch(line) for line in lines]
    rules = []
    for (service, port), group in itertools.groupby(
        (match for match in matches if match), key=lambda match: (match["service"], int(match["port"]))
    ):
        left, destinations = MILLION, []
        for match in group:
            share = left if match["probability"] is None else round(float(match["probability"]) * left)
            left -= share
            destinations.append(Destination(match["ip"], int(match["to"]), share))
        if left:
            return None
        rules.append(ServiceRule(service, port, tuple(destinations)))
    return None if None in matches else tuple(rules)
