"""Where everything of the bed lies: folders, addresses, names and sizes. Nothing of it is read from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
CACHE = Path("~/.cache/imbres-testbed").expanduser()
"""What is built once and kept: Kubernetes, the images."""
RUN = Path("/var/lib/imbres-testbed")
"""Everything of a running bed; `down` deletes it. Short, as a Unix socket's path has at most 107 letters."""

KUBERNETES_VERSION = "1.20.2"
KUBERNETES = CACHE / f"kubernetes-{KUBERNETES_VERSION}-1"
"""The binaries; the last number counts changes of how they are built."""
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")

CONTEXT = "imbres-testbed"
"""Name of the kubeconfig's only context."""
KUBECONFIG = RUN / "kubeconfig.yaml"
PKI = RUN / "pki"

GATEWAY = "10.88.0.1"
"""The machine itself on the bridge of the nodes; everything that pods need from it listens here."""
BRIDGE = "imbres0"
API_PORT = 6443
ETCD_PORT = 12379
PROMETHEUS_PORT = 9090
REDIS_PORT = 6379
TRACES_PORT = 16686
"""Jaeger's query port; the stand-in takes OTLP/HTTP on it, too."""
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
PODS = "10.244.0.0/16"

NODE_EXPORTER_PORT = 9100
IMBRES_EXPORTER_PORT = 9101
KUBELET_PORT = 10250

NODE_CORES = 0.6
"""CPU quota of a node: three of them and the control plane share a machine of two cores."""
NETWORK_BITS_PER_S = 1e9
"""Bandwidth that a node's network utilisation is measured against: estimate, a common link; the bed's is faster."""
CGROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
"""Period of CFS bandwidth control: the kernel's and Kubernetes' default."""


@dataclass(frozen=True)
class Node:
    """One node: a network namespace, a cgroup with a CPU quota, containerd, kubelet and kube-proxy."""

    number: int

    @property
    def name(self) -> str:
        """As Kubernetes knows it; also the names of its network namespace and cgroup."""
        return f"node{self.number}"

    @property
    def namespace(self) -> str:
        """Network namespace."""
        return f"imbres-{self.name}"

    @property
    def cgroup(self) -> str:
        """Path of its cgroup in every controller's tree."""
        return f"imbres-{self.name}"

    @property
    def link(self) -> str:
        """The machine's end of the node's virtual cable."""
        return f"imbres-v{self.number}"

    @property
    def address(self) -> str:
        """IP of the node."""
        return f"10.88.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        """Subnet of its pods."""
        return f"10.244.{self.number}.0/24"

    @property
    def folder(self) -> Path:
        """Files of its programs."""
        return RUN / self.name

    @property
    def containerd(self) -> Path:
        """Socket of its container runtime."""
        return self.folder / "containerd.sock"


NODES = tuple(Node(number) for number in (1, 2, 3))


def reserved_cores() -> float:
    """What a kubelet must leave unused so that a node's allocatable cores are its quota."""
    return (os.cpu_count() or 1) - NODE_CORES


def node_named(name: str) -> Node | None:
    """The node of that name."""
    return next((node for node in NODES if node.name == name), None)
