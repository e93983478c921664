"""The controller as a pod: the Deployment of `configs/kubernetes/`, its service account, its configuration."""

from __future__ import annotations

import yaml

from scripts.testbed import api, controller_image, manifests
from scripts.testbed.manifests import CONTROLLER, PLACES, SYSTEM
from scripts.testbed.steps import step, wait_until

CPU_REQUEST = "100m"
"""The manifest asks for 250m, which a node of 600m has not left beside a bed's application."""
CONFIG = "imbres-gym-live"
"""The ConfigMap's name in the manifest; kustomize would add a hash of its content."""
DEPLOYMENT = f"{PLACES['Deployment'].format(namespace=SYSTEM)}/{CONTROLLER}"
STOP_S = 120.0
"""Longest wait for its pods to be gone: twice their time to leave the cluster as it was found."""


def start(config: api.Json) -> None:
    """Create it with a live run's configuration; it starts by itself.

    Args:
        config: content of `live.yaml`.
    """
    controller_image.load()
    with step("create the controller's Deployment"):
        manifests.grant_controller(config["namespace"])
        metadata = {"name": CONFIG, "namespace": SYSTEM}
        data = {"live.yaml": yaml.safe_dump(config)}
        manifests.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        (item,) = manifests.documents("controller.yaml")
        deployment = manifests.with_image(item, controller_image.CONTROLLER)
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            container["resources"]["requests"]["cpu"] = CPU_REQUEST
        manifests.create(deployment)


def stop() -> None:
    """Delete it as a user does, and wait until its containers have ended; what is gone already is no error."""
    with step("delete the controller's Deployment"):
        for path in (DEPLOYMENT, f"{PLACES['ConfigMap'].format(namespace=SYSTEM)}/{CONFIG}"):
            api.delete(path)
        wait_until(lambda: not any(map(_runs, pods())), "the controller's containers ended", STOP_S)


def pods() -> list[api.Json]:
    """Its pods, also those that are ending, and that have ended but which Kubernetes has not deleted yet."""
    selector = "labelSelector=app.kubernetes.io%2Fcomponent%3Dcontroller"
    found: list[api.Json] = api.get(f"/api/v1/namespaces/{SYSTEM}/pods?{selector}")["items"]
    return found


def _runs(pod: api.Json) -> bool:
    ending = "deletionTimestamp" in pod["metadata"]
    return not ending or any("running" in status["state"] for status in pod["status"].get("containerStatuses") or ())
