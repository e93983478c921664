"""Rules as nftables, where iptables is absent: a table of our own, replaced as a whole in one transaction.

A random number picks the destination in a map of intervals, one step whatever the number of targets.
No text of a plan gets here, only addresses and numbers.
"""

from __future__ import annotations

import json
from typing import Any

from imbres_gym.live.node.namespaces import Command, CommandFailed, Namespace
from imbres_gym.live.node.rules import MILLION, NOTHING, Destination, Found, Rules, ServiceRule

TABLE = "imbres_gym"
PRIORITY = -101
"""Just before the chains of iptables (-100), so that the rules are the first to translate, as with that backend."""


class NftablesBackend:
    """Writes with the program `nft`."""

    name = "nftables"
    programs = ("nft",)

    def read(self, namespace: Namespace) -> Found:
        """What of ours is in the namespace."""
        try:
            return parse_json(namespace.run(Command(("nft", "--json", "list", "table", "ip", TABLE))))
        except CommandFailed as error:
            if "No such file or directory" in str(error):
                return NOTHING
            raise

    def replacement(self, rules: Rules, found: Found) -> Command:
        """The command that replaces what was found by these rules."""
        return Command(("nft", "--file", "-"), script(rules))


def script(rules: Rules) -> str:
    """Input for `nft --file -` that replaces the table; no rules remove it."""
    # Named first, as only a table that is there can be deleted.
    lines = [f"table ip {TABLE}", f"delete table ip {TABLE}"]
    if rules:
        lines += [f"table ip {TABLE} {{", " chain output {"]
        lines += [f"  type nat hook output priority {PRIORITY}; policy accept;"]
        lines += [f"  ip daddr {r.cluster_ip} tcp dport {r.port} dnat ip to {_target(r)}" for r in rules]
        lines += [" }", "}"]
    return "\n".join([*lines, ""])


def parse_json(text: str) -> Found:
    """Read the output of `nft --json list table`.

    Raises:
        CommandFailed: it is no listing.
    """
    try:
        items = json.loads(text)["nftables"]
    except (KeyError, TypeError, ValueError) as error:
        raise CommandFailed(f"nft: its listing cannot be read: {error or type(error).__name__}") from None
    chains = [item["chain"] for item in items if "chain" in item]
    hooks = sum(chain.get("hook") == "output" and chain.get("prio") == PRIORITY for chain in chains)
    try:
        rules = tuple(_parse(item["rule"]["expr"]) for item in items if "rule" in item)
    except (KeyError, TypeError, ValueError):
        return Found(rules=None, hooks=hooks, exists=True)
    return Found(rules=rules, hooks=hooks, exists=True)


def _target(rule: ServiceRule) -> str:
    if len(rule.destinations) == 1:
        only = rule.destinations[0]
        return f"{only.ip}:{only.port}"
    elements, start = [], 0
    for destination in rule.destinations:
        end = start + destination.share - 1
        elements.append(f"{start}-{end} : {destination.ip} . {destination.port}")
        start = end + 1
    return f"numgen random mod {MILLION} map {{ {', '.join(elements)} }}"


def _parse(expressions: list[dict[str, Any]]) -> ServiceRule:
    """One rule from its JSON; KeyError, TypeError or ValueError if it is none of ours."""
    address, port, dnat = expressions
    cluster_ip, number = _matched(address, "ip", "daddr"), _matched(port, "tcp", "dport")
    return ServiceRule(cluster_ip, number, _destinations(dnat["dnat"]))


def _matched(expression: dict[str, Any], protocol: str, name: str) -> Any:
    """The value that a field of a packet has to have."""
    match = expression["match"]
    if match["op"] != "==" or match["left"] != {"payload": {"protocol": protocol, "field": name}}:
        raise ValueError(f"not a comparison with {name}")
    return match["right"]


def _destinations(dnat: dict[str, Any]) -> tuple[Destination, ...]:
    if isinstance(dnat["addr"], str):
        return (Destination(dnat["addr"], dnat["port"], MILLION),)
    choice = dnat["addr"]["map"]
    if choice["key"] != {"numgen": {"mode": "random", "mod": MILLION, "offset": 0}}:
        raise ValueError("not a random choice in millionths")
    destinations, start = [], 0
    for key, value in choice["data"]["set"]:
        first, last = key["range"] if isinstance(key, dict) else (key, key)
        if first != start:
            raise ValueError("a gap between two shares")
        ip, port = value["concat"]
        destinations.append(Destination(ip, port, last - first + 1))
        start = last + 1
    if start != MILLION:
        raise ValueError("the shares do not add up")
    return tuple(destinations)
