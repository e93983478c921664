"""One bridge, and per node a network namespace with a virtual cable to it and routes to every node's pods."""

from __future__ import annotations

from pathlib import Path

from scripts.testbed.layout import BRIDGE, GATEWAY, NODES, PODS, SERVICES, Node
from scripts.testbed.steps import BedError, call

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def ip(*words: str) -> str:
    """Run `ip` of iproute2."""
    return call(["ip", *words])


def start() -> None:
    """Make the bridge; it carries the address that pods reach the machine by."""
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
    FORWARDING.write_text("1")


def add_node(node: Node) -> None:
    """Make a node's namespace and connect it."""
    ip("netns", "add", node.namespace)
    ip("link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", node.namespace)
    ip("link", "set", node.link, "master", BRIDGE, "up")
    inside = ["-n", node.namespace]
    ip(*inside, "address", "add", f"{node.address}/24", "dev", "eth0")
    ip(*inside, "link", "set", "lo", "up")
    ip(*inside, "link", "set", "eth0", "up")
    ip(*inside, "route", "add", "default", "via", GATEWAY)
    for other in NODES:
        if other != node:
            ip(*inside, "route", "add", other.pods, "via", other.address)
    call(["ip", "netns", "exec", node.namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
    ip("route", "replace", node.pods, "via", node.address)


def reach_services() -> None:
    """Let the machine itself reach Services by their cluster IPs, through kube-proxy of the first node."""
    ip("route", "replace", SERVICES, "via", NODES[0].address)


def pod_namespaces() -> set[str]:
    """Names of the network namespaces that CNI made for pods."""
    return {path.name for path in Path("/run/netns").glob("cni-*")}


def stop(keep: set[str]) -> None:
    """Remove the namespaces, cables, routes and the bridge; what is gone already is no error.

    Args:
        keep: network namespaces of pods that were there before the bed.
    """
    for namespace in pod_namespaces() - keep:
        _quietly("netns", "delete", namespace)
    for node in NODES:
        _quietly("netns", "delete", node.namespace)
        _quietly("link", "delete", node.link)
    _quietly("link", "delete", BRIDGE)


def _quietly(*words: str) -> None:
    try:
        ip(*words)
    except BedError:
        return


def leftovers() -> list[str]:
    """What of the network is still there."""
    found = [
        f"link {link}" for link in (BRIDGE, *(node.link for node in NODES)) if Path(f"/sys/class/net/{link}").exists()
    ]
    found += [f"namespace {n.namespace}" for n in NODES if Path(f"/run/netns/{n.namespace}").exists()]
    routes = ip("route", "show").splitlines()
    return found + [f"route {route}" for route in routes if route.startswith((PODS.removesuffix("0.0/16"), SERVICES))]
