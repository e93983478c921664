"""The Debian packages that the bed is made of; nothing comes from anywhere else."""

from __future__ import annotations

import os

from scripts.testbed.steps import BedError, call, step

BUILD = ("golang-go", "dpkg-dev", "golang-github-modern-go-reflect2-dev")
"""Only to build Kubernetes; not needed once the binary is cached."""
COMPILE = ("gcc", "libc6-dev")
"""Only for tests with a wrong clock."""
RUN = (
    "etcd-server",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "prometheus",
    "prometheus-node-exporter",
    "redis-server",
    "stress-ng",
    "busybox-static",
    "iptables",
    "nftables",
    "conntrack",
    "iproute2",
    "ipset",
    "ebtables",
    "socat",
    "ethtool",
    "openssl",
)


def missing(packages: tuple[str, ...]) -> list[str]:
    """Those of the packages that are not installed."""
    shown = call(["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n"])
    installed = {line.split()[0] for line in shown.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


def install(packages: tuple[str, ...]) -> None:
    """Install what is missing.

    Raises:
        BedError: this is not Debian, or a package cannot be had.
    """
    wanted = missing(packages)
    if not wanted:
        return
    with step(f"install {len(wanted)} Debian packages ({', '.join(wanted)})"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "--quiet", "--yes", "--option", "DPkg::Lock::Timeout=300"]
        call([*apt, "update"], env=env)
        call([*apt, "install", "--no-install-recommends", *wanted], env=env)
        if left := missing(packages):
            raise BedError(f"apt-get did not install {', '.join(left)}")
