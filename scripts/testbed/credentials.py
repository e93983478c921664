"""Who may talk to the API server: a certificate authority, one token a component, one kubeconfig a component."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from scripts.testbed.layout import API_PORT, API_SERVICE, CONTEXT, GATEWAY, KUBECONFIG, NODES, PKI, RUN
from scripts.testbed.steps import call

CA = PKI / "ca.crt"
TOKENS = PKI / "tokens.csv"
SERVER = f"https://{GATEWAY}:{API_PORT}"
ADMIN = "admin"
CONTROLLERS = "system:kube-controller-manager"
SCHEDULER = "system:kube-scheduler"
PROXY = "system:kube-proxy"
DAYS = "30"
"""A bed does not live longer: estimate."""


def node_user(name: str) -> str:
    """The user that the kubelet of a node is."""
    return f"system:node:{name}"


def kubeconfig_of(user: str) -> Path:
    """The kubeconfig file of a component."""
    return KUBECONFIG if user == ADMIN else PKI / f"{user.replace(':', '-')}.kubeconfig"


def write_credentials() -> None:
    """Write the authority, the server's certificate, the key of service accounts, tokens and kubeconfigs."""
    PKI.mkdir(parents=True, exist_ok=True)
    PKI.chmod(0o700)
    subject = ["-days", DAYS, "-subj"]
    new_key: list[str | Path] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"]
    authority: list[str | Path] = [
        "openssl",
        "req",
        "-x509",
        *new_key,
        PKI / "ca.key",
        "-out",
        CA,
        *subject,
        "/CN=imbres-testbed-ca",
    ]
    call([*authority, "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"])
    call(["openssl", "req", "-new", *new_key, PKI / "server.key", "-out", PKI / "server.csr", "-subj", "/CN=apiserver"])
    names = [f"IP:{GATEWAY}", f"IP:{API_SERVICE}", "IP:127.0.0.1", "DNS:kubernetes.default.svc", "DNS:localhost"]
    (PKI / "server.ext").write_text(f"subjectAltName={','.join(names)}\nextendedKeyUsage=serverAuth\n")
    sign: list[str | Path] = [
        "openssl",
        "x509",
        "-req",
        "-in",
        PKI / "server.csr",
        "-CA",
        CA,
        "-CAkey",
        PKI / "ca.key",
        "-CAcreateserial",
    ]
    call([*sign, "-out", PKI / "server.crt", "-days", DAYS, "-extfile", PKI / "server.ext"])
    call(["openssl", "genrsa", "-out", PKI / "accounts.key", "2048"])
    call(["openssl", "rsa", "-in", PKI / "accounts.key", "-pubout", "-out", PKI / "accounts.pub"])
    groups = {ADMIN: "system:masters", CONTROLLERS: "", SCHEDULER: "", PROXY: ""}
    groups |= {node_user(node.name): "system:nodes" for node in NODES}
    lines = []
    for user, group in groups.items():
        token = secrets.token_hex(16)
        lines.append(",".join([token, user, user, f'"{group}"'] if group else [token, user, user]))
        _write_kubeconfig(user, token)
    TOKENS.write_text("\n".join(lines) + "\n")
    TOKENS.chmod(0o600)


def _write_kubeconfig(user: str, token: str) -> None:
    """A kubeconfig is YAML, and JSON is YAML."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": {"server": SERVER, "certificate-authority": str(CA)}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": user}}],
        "current-context": CONTEXT,
    }
    file = kubeconfig_of(user)
    RUN.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(json.dumps(content, indent=1) + "\n")
