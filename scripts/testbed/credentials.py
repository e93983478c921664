"""Who may talk to the API server: a certificate authority, one token a component, one kubeconfig a component."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
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
AGE, LIFE = timedelta(days=1), timedelta(days=30)
"""Certificates are valid since a day before they are made: those of a real cluster are not new either, and to a program
whose clock is behind they would not be valid yet. A bed does not live for 30 days (estimate)."""


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
    _write_certificates()
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


def _write_certificates() -> None:
    """The authority signs itself and the server; `openssl ca`, as `openssl x509` cannot set the day of the start."""
    names = [f"IP:{GATEWAY}", f"IP:{API_SERVICE}", "IP:127.0.0.1", "DNS:kubernetes.default.svc", "DNS:localhost"]
    config = PKI / "openssl.cnf"
    config.write_text(
        f"""\
[ca]
default_ca = bed
[bed]
database = {PKI}/issued.txt
new_certs_dir = {PKI}
rand_serial = yes
default_md = sha256
policy = names
[names]
commonName = supplied
[authority]
basicConstraints = critical,CA:true
subjectKeyIdentifier = hash
keyUsage = critical,keyCertSign,cRLSign,digitalSignature
[server]
subjectAltName = {",".join(names)}
extendedKeyUsage = serverAuth
"""
    )
    (PKI / "issued.txt").touch()
    now = datetime.now(UTC)
    dates = ["-startdate", f"{now - AGE:%Y%m%d%H%M%SZ}", "-enddate", f"{now + LIFE:%Y%m%d%H%M%SZ}"]
    sign: list[str | Path] = [
        "openssl",
        "ca",
        "-batch",
        "-notext",
        "-config",
        config,
        "-keyfile",
        PKI / "ca.key",
        *dates,
    ]
    new_key: list[str | Path] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"]
    for name, subject in (("ca", "imbres-testbed-ca"), ("server", "apiserver")):
        request = PKI / f"{name}.csr"
        call(["openssl", "req", "-new", *new_key, PKI / f"{name}.key", "-out", request, "-subj", f"/CN={subject}"])
        signer: list[str | Path] = ["-selfsign", "-extensions", "authority"]
        if name != "ca":
            signer = ["-cert", CA, "-extensions", "server"]
        call([*sign, *signer, "-in", request, "-out", PKI / f"{name}.crt"])


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
