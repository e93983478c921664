"""Nodes: containerd, kubelet and kube-proxy, each node in a network namespace and a cgroup of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import yaml

from scripts.testbed import api, cgroups, network, processes
from scripts.testbed.credentials import PROXY, kubeconfig_of, node_user
from scripts.testbed.images import PAUSE
from scripts.testbed.layout import CGROUPS, KUBELET_PORT, KUBERNETES, NODES, PODS, Node, reserved_cores
from scripts.testbed.steps import BedError, call, step, wait_until

START_S = 120.0
PROGRAMS = ("containerd", "kubelet", "kube-proxy")


def start(node: Node, images: Sequence[Path]) -> None:
    """Make a node and start its programs; the kubelet registers it by itself."""
    with step(f"{node.name}: network, cgroup and containerd, with {len(images)} images"):
        for folder in ("cni", "kubelet"):
            (node.folder / folder).mkdir(parents=True, exist_ok=True)
        network.add_node(node)
        cgroups.add_node(node)
        _write_cni(node)
        (node.folder / "containerd.toml").write_text(_containerd_config(node))
        start_containerd(node)
        for archive in images:
            ctr(node, "images", "import", str(archive))
    with step(f"{node.name}: kubelet and kube-proxy"):
        _start_kubelet(node)
        _start_proxy(node)


def ctr(node: Node, *words: str) -> str:
    """Run containerd's own client against a node."""
    return call(["ctr", "--address", node.containerd, "--namespace", "k8s.io", *words], timeout_s=120.0)


def start_containerd(node: Node) -> None:
    """Start a node's container runtime and wait for its answer."""
    command: list[str | Path] = ["containerd", "--config", node.folder / "containerd.toml"]
    processes.start(f"{node.name}/containerd", command, node.namespace)
    wait_until(lambda: _containerd_answers(node), f"{node.name}: containerd answers", START_S)


def _containerd_answers(node: Node) -> bool:
    processes.check_running(f"{node.name}/containerd")
    try:
        ctr(node, "version")
    except BedError:
        return False
    return True


def are_ready() -> bool:
    """Whether every node is Ready."""
    ready = set()
    for node in api.get("/api/v1/nodes")["items"]:
        conditions = {c["type"]: c["status"] for c in node["status"].get("conditions", ())}
        if conditions.get("Ready") == "True":
            ready.add(node["metadata"]["name"])
    return ready >= {node.name for node in NODES}


def wait_ready() -> None:
    """Wait until every node is Ready."""

    def ready() -> bool:
        for node in NODES:
            for program in PROGRAMS:
                processes.check_running(f"{node.name}/{program}")
        return are_ready()

    with step("wait until the nodes are Ready"):
        wait_until(ready, "nodes Ready", START_S, pause_s=0.5)


def _write_cni(node: Node) -> None:
    addresses: dict[str, object] = {"type": "host-local", "dataDir": str(node.folder / "cni/data")}
    addresses |= {"ranges": [[{"subnet": node.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True}
    plugins = [{**bridge, "ipam": addresses}, {"type": "portmap", "capabilities": {"portMappings": True}}]
    folder = node.folder / "cni/conf"
    folder.mkdir(exist_ok=True)
    content = {"cniVersion": "0.4.0", "name": "imbres", "plugins": plugins}
    (folder / "10-imbres.conflist").write_text(json.dumps(content))


def _containerd_config(node: Node) -> str:
    """Root, state, socket and runc's state of its own; score adjustments and AppArmor need rights a bed may lack."""
    return f"""\
version = 2
root = "{node.folder}/containerd/root"
state = "{node.folder}/containerd/state"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.tracing", "io.containerd.snapshotter.v1.btrfs"]
[grpc]
  address = "{node.containerd}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{node.folder}/cni/conf"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{node.folder}/runc"
"""


def _start_kubelet(node: Node) -> None:
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "port": KUBELET_PORT,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "enforceNodeAllocatable": ["pods"],
        "systemReserved": {"cpu": f"{round(1000 * reserved_cores())}m"},
        "evictionHard": {"memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "nodeStatusUpdateFrequency": "3s",
        "nodeLeaseDurationSeconds": 10,
        "syncFrequency": "10s",
        "volumePluginDir": str(node.folder / "plugins"),
        "kubeAPIQPS": 50,
        "kubeAPIBurst": 100,
    }
    file = node.folder / "kubelet.yaml"
    file.write_text(yaml.safe_dump(config))
    socket = f"unix://{node.containerd}"
    flags = {
        "config": file,
        "kubeconfig": kubeconfig_of(node_user(node.name)),
        "root-dir": node.folder / "kubelet",
        "cert-dir": node.folder / "kubelet/pki",
        "container-runtime": "remote",
        "container-runtime-endpoint": socket,
        "containerd": node.containerd,
        "pod-infra-container-image": PAUSE,
        "hostname-override": node.name,
        "node-ip": node.address,
        "housekeeping-interval": "5s",
    }
    command: list[str | Path] = [KUBERNETES / "kubelet", *(f"--{key}={value}" for key, value in flags.items())]
    # Without the variable, the kubelet asks for a cloud's credentials for 11 s.
    processes.start(f"{node.name}/kubelet", command, node.namespace, env={"AWS_EC2_METADATA_DISABLED": "true"})


def _start_proxy(node: Node) -> None:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig_of(PROXY))},
        "hostnameOverride": node.name,
        "mode": "iptables",
        "clusterCIDR": PODS,
        "bindAddress": node.address,
        "healthzBindAddress": "",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
    }
    file = node.folder / "kube-proxy.yaml"
    file.write_text(yaml.safe_dump(config))
    processes.start(f"{node.name}/kube-proxy", [KUBERNETES / "kube-proxy", f"--config={file}"], node.namespace)


def crash(node: Node) -> None:
    """Kill all of a node at once, as a power cut does: its programs, its containers and their shims."""
    for name in processes.names():
        if name.startswith(f"{node.name}/"):
            processes.kill(name)
    cgroups.kill_node(node)
    _kill_shims(node)


def revive(node: Node) -> None:
    """Start a crashed node's programs again; its kubelet then starts its pods again."""
    processes.restart(f"{node.name}/containerd")
    wait_until(lambda: _containerd_answers(node), f"{node.name}: containerd answers", START_S)
    for name in processes.names():
        if name.startswith(f"{node.name}/"):
            processes.restart(name)


def _kill_shims(node: Node) -> None:
    """Shims belong to no cgroup of the node; each names the node's socket on its command line."""
    mine = str(node.containerd).encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"shim" in words[0] and mine in words:
            os.kill(int(folder.name), signal.SIGKILL)


def stop(node: Node) -> None:
    """End a node's programs and containers, and take its mounts away."""
    for program in ("kube-proxy", "kubelet"):
        processes.stop(f"{node.name}/{program}")
    cgroups.kill_node(node)
    processes.stop(f"{node.name}/containerd")
    _kill_shims(node)
    unmount(node.folder)


def unmount(folder: Path) -> None:
    """Unmount all that is mounted below a folder, the deepest first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        call(["umount", "--lazy", mount])


def quota_cores(node: Node) -> float:
    """The node's capacity as the kernel enforces it [cores]."""
    folder = CGROUPS / "cpu" / node.cgroup
    return int((folder / "cpu.cfs_quota_us").read_text()) / int((folder / "cpu.cfs_period_us").read_text())
