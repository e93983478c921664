"""etcd, API server (RBAC, service accounts, admission), controller manager and scheduler, as on any cluster."""

from __future__ import annotations

import urllib.request

from scripts.testbed import api, processes
from scripts.testbed.credentials import CA, CONTROLLERS, SCHEDULER, TOKENS, kubeconfig_of, write_credentials
from scripts.testbed.layout import API_PORT, ETCD_PORT, GATEWAY, KUBERNETES, PKI, PODS, RUN, SERVICES
from scripts.testbed.steps import step, wait_until

ETCD, API, MANAGER, PLANNER = "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"
START_S = 60.0
"""Longest wait for a part to be ready (7-9 s on two idle cores)."""
NODE_GONE_S = 15
"""After this silence a node counts as lost, and after as long again its pods are replaced; Kubernetes' defaults (40 s
and 300 s) would make every test of a lost node last six minutes."""


def start() -> None:
    """Start the control plane, and wait until every part says that it is ready."""
    with step("write certificates, tokens and kubeconfigs"):
        write_credentials()
    with step("start etcd and the API server"):
        _start_store()
        _start_api()
        wait_until(lambda: _alive(API) and api.is_ready(), "API server ready", START_S)
    with step("start the controller manager and the scheduler"):
        _start_manager()
        _start_planner()
        wait_until(lambda: _alive(MANAGER) and _healthy(10252), "controller manager ready", START_S)
        wait_until(lambda: _alive(PLANNER) and _healthy(10251), "scheduler ready", START_S)


def _alive(name: str) -> bool:
    processes.check_running(name)
    return True


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2.0) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _start_store() -> None:
    client, peer = f"http://127.0.0.1:{ETCD_PORT}", f"http://127.0.0.1:{ETCD_PORT + 1}"
    urls = [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
    urls += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"]
    # No fsync: the bed shares one disk, and what a power cut would lose is thrown away anyhow.
    processes.start(ETCD, ["etcd", f"--data-dir={RUN / 'etcd'}", "--unsafe-no-fsync", *urls])


def _start_api() -> None:
    issuer = "https://kubernetes.default.svc"
    flags = {
        "etcd-servers": f"http://127.0.0.1:{ETCD_PORT}",
        "bind-address": GATEWAY,
        "advertise-address": GATEWAY,
        "secure-port": API_PORT,
        "cert-dir": PKI,
        "tls-cert-file": PKI / "server.crt",
        "tls-private-key-file": PKI / "server.key",
        "token-auth-file": TOKENS,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "service-cluster-ip-range": SERVICES,
        "service-account-key-file": PKI / "accounts.pub",
        "service-account-signing-key-file": PKI / "accounts.key",
        "service-account-issuer": issuer,
        "api-audiences": issuer,
        "allow-privileged": "true",
        "kubelet-preferred-address-types": "InternalIP",
        "default-not-ready-toleration-seconds": NODE_GONE_S,
        "default-unreachable-toleration-seconds": NODE_GONE_S,
    }
    processes.start(API, [KUBERNETES / API, *(f"--{key}={value}" for key, value in flags.items())])


def _start_manager() -> None:
    config = kubeconfig_of(CONTROLLERS)
    flags = {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "service-account-private-key-file": PKI / "accounts.key",
        "use-service-account-credentials": "true",
        "root-ca-file": CA,
        "cluster-cidr": PODS,
        "leader-elect": "false",
        "bind-address": "127.0.0.1",
        "address": "127.0.0.1",
        "node-monitor-grace-period": f"{NODE_GONE_S}s",
        "kube-api-qps": 100,
        "kube-api-burst": 200,
    }
    processes.start(MANAGER, [KUBERNETES / MANAGER, *(f"--{key}={value}" for key, value in flags.items())])


def _start_planner() -> None:
    config = kubeconfig_of(SCHEDULER)
    flags = {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "leader-elect": "false",
        "bind-address": "127.0.0.1",
        "address": "127.0.0.1",
    }
    processes.start(PLANNER, [KUBERNETES / PLANNER, *(f"--{key}={value}" for key, value in flags.items())])


def stop() -> None:
    """Stop all of it, the store last."""
    for name in (PLANNER, MANAGER, API, ETCD):
        processes.stop(name)
