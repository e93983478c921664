"""The whole bed: up, down and how it is."""

from __future__ import annotations

import json
import os
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.testbed import (
    agent_image,
    api,
    cgroups,
    control_plane,
    images,
    kubernetes,
    manifests,
    network,
    nodes,
    observability,
    packages,
    processes,
)
from scripts.testbed.layout import (
    CONTEXT,
    GATEWAY,
    KUBECONFIG,
    NODES,
    PROMETHEUS_PORT,
    REDIS_PORT,
    RUN,
    TRACES_PORT,
)
from scripts.testbed.steps import BedError, step

REMEMBERED = RUN / "before.json"
SHARED_FOLDERS = tuple(
    Path(name)
    for name in (
        "/var/lib/kubelet",  # device plug-ins
        "/var/lib/cni",  # results of CNI plug-ins
        "/var/lib/containerd",
        "/var/log/pods",
        "/var/log/containers",
        "/run/containerd",  # sockets of the shims
        "/opt/containerd",
        "/opt/cni",
        "/etc/cni",
        "/usr/libexec/kubernetes",
    )
)
"""Folders with fixed names that kubelet, containerd or CNI make on the machine: `down` deletes those that `up` found
absent."""
SYSCTLS = tuple(
    Path("/proc/sys") / name
    for name in (
        "net/ipv4/ip_forward",
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/keys/root_maxbytes",
    )
)
"""Settings of the machine that the bed or a kubelet changes; `down` sets them back."""


def check() -> None:
    """Refuse a machine that the bed cannot run on.

    Raises:
        BedError: not root, not Debian 12, or not cgroup version 1.
    """
    if os.geteuid() != 0:
        raise BedError("the bed makes network namespaces and cgroups: run it as root")
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    if (system.get("ID"), system.get("VERSION_ID")) != ("debian", "12"):
        raise BedError(
            f"the bed is made of Debian 12's packages; this is {system.get('PRETTY_NAME', 'another system')}"
        )
    cgroups.check()


def up() -> None:
    """Build what is not in the cache and start everything; a running bed is left alone.

    Raises:
        BedError: something does not start; says what, and the end of its log.
    """
    check()
    if is_up():
        print(f"the bed is up already; {_how_to_use()}")
        return
    if RUN.exists():
        print("found the remains of a bed")
        down()
    try:
        _up()
    except BaseException:
        print(f"what was started is left as it is, with its logs in {processes.LOGS}; take it down with `down`")
        raise
    print(_how_to_use())


def _up() -> None:
    with step("bring the bed up"):
        packages.install(packages.RUN)
        kubernetes.build()
        archives = [*images.build(), agent_image.build()]
        _remember()
        network.start()
        control_plane.start()
        with ThreadPoolExecutor(len(NODES)) as pool:
            list(pool.map(lambda node: nodes.start(node, archives), NODES))
        network.reach_services()
        observability.start()
        nodes.wait_ready()
        manifests.define_resources()
        manifests.start_agents()


def _how_to_use() -> str:
    return (
        f"kubeconfig {KUBECONFIG}, context {CONTEXT}; Prometheus http://{GATEWAY}:{PROMETHEUS_PORT}, "
        f"traces http://{GATEWAY}:{TRACES_PORT}, Redis redis://{GATEWAY}:{REDIS_PORT}"
    )


def is_up() -> bool:
    """Whether all programs run, all nodes are Ready, and so are their agents."""
    names = processes.names()
    return bool(names) and all(map(processes.is_running, names)) and api.is_ready() and nodes.are_ready() and _agents()


def _agents() -> bool:
    try:
        return manifests.agents_ready()
    except OSError:
        return False


def _remember() -> None:
    RUN.mkdir(parents=True, exist_ok=True)
    absent = [str(folder) for folder in SHARED_FOLDERS if not folder.exists()]
    settings = {str(file): file.read_text().strip() for file in SYSCTLS if file.exists()}
    pods = sorted(network.pod_namespaces())
    REMEMBERED.write_text(json.dumps({"absent": absent, "settings": settings, "pod_namespaces": pods}))


def down() -> None:
    """Stop everything and take away all that the bed made; what is gone already is no error.

    Raises:
        BedError: something is left; says what.
    """
    with step("take the bed down"):
        with step("stop Prometheus, exporters, trace store and Redis"):
            observability.stop()
        with step("stop the nodes"), ThreadPoolExecutor(len(NODES)) as pool:
            list(pool.map(nodes.stop, NODES))
        with step("stop the control plane"):
            control_plane.stop()
            for name in processes.names():
                processes.stop(name)
        with step("remove network, cgroups and files"):
            cgroups.remove()
            _restore()
    if left := leftovers():
        raise BedError(f"left behind: {'; '.join(left)}")


def _restore() -> None:
    """Give the machine back what `up` found."""
    if REMEMBERED.exists():
        remembered = json.loads(REMEMBERED.read_text())
        network.stop(keep=set(remembered["pod_namespaces"]))
        for file, value in remembered["settings"].items():
            Path(file).write_text(value)
        for folder in map(Path, remembered["absent"]):
            nodes.unmount(folder)
            shutil.rmtree(folder, ignore_errors=True)
    nodes.unmount(RUN)
    shutil.rmtree(RUN, ignore_errors=True)


def leftovers() -> list[str]:
    """What of a bed is still on the machine: programs, mounts, network, cgroups, files."""
    found = [f"program {name}" for name in processes.names() if processes.is_running(name)]
    found += [
        f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(RUN) in line
    ]
    found += network.leftovers() + cgroups.leftovers()
    return found + ([f"folder {RUN}"] if RUN.exists() else [])


def status() -> bool:
    """Print how the bed is; returns whether all is well."""
    names = processes.names()
    if not names:
        left = leftovers()
        print("the bed is down" + (f", but left behind: {'; '.join(left)}" if left else ""))
        return False
    for name in names:
        pid = processes.pid_of(name)
        print(f"{name:28} {'pid ' + str(pid) if pid else 'NOT RUNNING'}")
    if not api.is_ready():
        print("the API server does not answer")
        return False
    for item in api.get("/api/v1/nodes")["items"]:
        ready = next((c["status"] for c in item["status"].get("conditions", ()) if c["type"] == "Ready"), "Unknown")
        print(f"{item['metadata']['name']:28} Ready: {ready}, CPU {item['status']['allocatable']['cpu']}")
    well = is_up()
    if well:
        print(_how_to_use())
    return well
