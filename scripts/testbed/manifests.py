"""Applies the manifests that users apply, too (`configs/kubernetes/`): custom resource, rights, node agents.

The controller is not started: whoever tests it runs `imbres-gym live` on the machine, with the controller's own rights
if wanted (`controller_kubeconfig`), or starts it as a pod (`scripts/testbed/controller_pod.py`).
"""

from __future__ import annotations

import base64
import copy
import functools
import json
from pathlib import Path

import yaml

from scripts.testbed import api
from scripts.testbed.agent_image import AGENT
from scripts.testbed.credentials import CA, SERVER
from scripts.testbed.layout import CONTEXT, NODES, ROOT
from scripts.testbed.steps import step, wait_until

FOLDER = ROOT / "configs/kubernetes"
PLACES = {
    "Namespace": "/api/v1/namespaces",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "DaemonSet": "/apis/apps/v1/namespaces/{namespace}/daemonsets",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
}
SYSTEM = "imbres-gym"
"""Namespace of imbres-gym itself in the manifests."""
AGENTS = "imbres-gym-node-agent"
CONTROLLER = "imbres-gym-controller"
START_S = 120.0


def documents(*files: str) -> list[api.Json]:
    """The objects of some of the manifests."""
    return [item for file in files for item in yaml.safe_load_all((FOLDER / file).read_text())]


def create(item: api.Json) -> None:
    """Create an object where its kind belongs."""
    namespace = item["metadata"].get("namespace", "")
    api.create(PLACES[item["kind"]].format(namespace=namespace), item)


def define_resources() -> None:
    """Define the custom resource and wait until it is served."""
    with step("define the custom resource ConnectionPlan"):
        for item in documents("crd.yaml"):
            create(item)
            path = f"{PLACES[item['kind']]}/{item['metadata']['name']}"
            wait_until(functools.partial(_is_served, path), f"{item['metadata']['name']} served", 20.0)


def _is_served(path: str) -> bool:
    conditions = api.get(path).get("status", {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def start_agents() -> None:
    """Start the node agents as a DaemonSet with the rights of the manifests, and wait for them."""
    with step("start the node agents"):
        for item in documents("namespace.yaml", "node-agent-rbac.yaml", "node-agent.yaml"):
            create(with_image(item, AGENT) if item["kind"] == "DaemonSet" else item)
        wait_until(agents_ready, "node agents ready", START_S, pause_s=0.5)


def with_image(item: api.Json, image: str) -> api.Json:
    """The same workload with an image that is in no registry, as kustomize's `images` would write it."""
    changed = copy.deepcopy(item)
    for container in changed["spec"]["template"]["spec"]["containers"]:
        container |= {"image": image, "imagePullPolicy": "Never"}
    return changed


def agents_ready() -> bool:
    """Whether every node has an agent that is ready."""
    status = api.get(f"{PLACES['DaemonSet'].format(namespace=SYSTEM)}/{AGENTS}")["status"]
    return bool(status.get("numberReady", 0) == len(NODES))


def grant_controller(namespace: str) -> None:
    """Make the controller's service account, with its rights in one application's namespace."""
    for item in documents("controller-rbac.yaml"):
        if item["kind"] in {"Role", "RoleBinding"}:
            item["metadata"]["namespace"] = namespace
        create(item)


def controller_kubeconfig(file: Path, namespace: str) -> Path:
    """Write a kubeconfig of the controller's service account, with its rights in one application's namespace."""
    grant_controller(namespace)
    account = f"{PLACES['ServiceAccount'].format(namespace=SYSTEM)}/{CONTROLLER}"
    wait_until(lambda: bool(api.get(account).get("secrets")), "token of the controller", 20.0)
    secret = api.get(f"/api/v1/namespaces/{SYSTEM}/secrets/{api.get(account)['secrets'][0]['name']}")
    token = base64.b64decode(secret["data"]["token"]).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": {"server": SERVER, "certificate-authority": str(CA)}}],
        "users": [{"name": CONTROLLER, "user": {"token": token}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTROLLER}}],
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(content))
    return file
