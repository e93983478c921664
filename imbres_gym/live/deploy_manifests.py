"""An application as Kubernetes objects: one Deployment and one Service a microservice, and the application itself.

Every microservice runs the same image, the synthetic microservice of `scripts/testbed/service/`, which reads from the
ConfigMap what it has to do. So any application file can be simulated or deployed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imbres_gym.application import Application
from imbres_gym.config import ConfigError, nearest
from imbres_gym.live.connection_plan import APPLICATION_LABEL, MICROSERVICE_LABEL
from imbres_gym.sim.effects import Effects

Manifest = dict[str, Any]
PORT = 8080
"""Of every Service and container."""
IMAGE = "localhost/imbres-service:1"
"""The test bed's own image of the synthetic microservice, which is in no registry."""
DRAIN_S = 10
"""A pod that is being deleted serves this long: two control intervals, so that connection plans can leave it first."""
GRACE_S = DRAIN_S + 5
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1035, which Kubernetes wants of a Service's name; stricter than RFC 1123, which it wants of the rest."""


@dataclass(frozen=True)
class DeployOptions:
    """How an application is deployed."""

    namespace: str
    image: str = IMAGE
    replicas: Mapping[str, int] = field(default_factory=dict)
    """Per microservice; one if absent."""
    otlp_url: str | None = None
    """Where the pods send spans (OTLP/HTTP); they record none if None."""
    trace_sampling: float = 0.1
    """Share of the requests whose spans are sent [0-1]: estimate, a few percent of the bed's CPU."""
    keep_alive: bool = False
    """Whether connections between microservices are kept; weights act on new connections only."""


def check_names(application: Application) -> None:
    """Refuse names that cannot be those of Kubernetes objects.

    Raises:
        ConfigError: says which name, and what it would have to look like.
    """
    for what, name in [("name", application.name), *(("microservices", name) for name in application.microservices)]:
        if not DNS_LABEL.fullmatch(name):
            suggestion = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip("-")
            hint = f"; rename it, for example to {suggestion!r}" if DNS_LABEL.fullmatch(suggestion) else ""
            raise ConfigError(
                f"application {application.name!r}: {what}: {name!r} cannot be the name of a Kubernetes Service: lower "
                f"case letters, digits and dashes, a letter first, at most 63{hint}"
            )


def manifests(application: Application, options: DeployOptions) -> list[Manifest]:
    """All objects in the order in which they must be made: Services first, so that pods learn their addresses.

    Raises:
        ConfigError: a name is none that Kubernetes takes, or `replicas` names no microservice.
    """
    check_names(application)
    for name in options.replicas:
        if name not in application.microservices:
            raise ConfigError(f"replicas: no microservice {name!r}; {nearest(name, application.microservices)}")
    config = service_config(application)
    names = list(application.microservices)
    return [
        _object("v1", "ConfigMap", config_name(application), application, options, data={"application.json": config}),
        *(_service(name, application, options) for name in names),
        *(_deployment(name, application, options, config) for name in names),
    ]


def config_name(application: Application) -> str:
    """Name of the ConfigMap that holds the application."""
    return f"imbres-{application.name}"


def service_config(application: Application) -> str:
    """What the synthetic microservice reads: the application, and the shapes that the simulator takes by default."""
    effects = Effects()
    shapes = {"demand_shape": effects.demand_shape, "store_shape": effects.store_shape}
    return json.dumps({"application": application.model_dump(mode="json"), **shapes}, sort_keys=True)


def _object(
    version: str, kind: str, name: str, application: Application, options: DeployOptions, **content: Any
) -> Manifest:
    labels = {APPLICATION_LABEL: application.name}
    if kind != "ConfigMap":
        labels[MICROSERVICE_LABEL] = name
    metadata = {"name": name, "namespace": options.namespace, "labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def _selector(name: str, application: Application) -> dict[str, str]:
    return {APPLICATION_LABEL: application.name, MICROSERVICE_LABEL: name}


def _service(name: str, application: Application, options: DeployOptions) -> Manifest:
    ports = [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}]
    spec = {"selector": _selector(name, application), "ports": ports}
    return _object("v1", "Service", name, application, options, spec=spec)


def _deployment(name: str, application: Application, options: DeployOptions, config: str) -> Manifest:
    # A changed application starts new pods, which a changed ConfigMap alone does not.
    annotations = {"imbres-gym.io/application-hash": hashlib.sha256(config.encode()).hexdigest()[:16]}
    volume = {"name": "application", "configMap": {"name": config_name(application)}}
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": True,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534},
        # As the simulator places them; a full node is no reason to wait.
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _selector(name, application)},
            }
        ],
        "containers": [_container(name, application, options)],
        "volumes": [volume],
    }
    spec = {
        "replicas": options.replicas.get(name, 1),
        "selector": {"matchLabels": _selector(name, application)},
        "template": {"metadata": {"labels": _selector(name, application), "annotations": annotations}, "spec": pod},
    }
    return _object("apps/v1", "Deployment", name, application, options, spec=spec)


def _container(name: str, application: Application, options: DeployOptions) -> Manifest:
    cores, memory_mb = application.cores_of(name), application.memory_of(name)
    size = {"cpu": f"{round(1000 * cores)}m", "memory": f"{round(memory_mb)}M"}
    mounted = "/etc/imbres-gym"
    variables: dict[str, str] = {
        "MICROSERVICE": name,
        "APPLICATION_FILE": f"{mounted}/application.json",
        "DRAIN_S": str(DRAIN_S),
        "KEEP_ALIVE": "1" if options.keep_alive else "0",
    }
    if options.otlp_url is not None:
        variables |= {"OTLP_URL": options.otlp_url, "TRACE_SAMPLING": f"{options.trace_sampling:g}"}
    fields = {"POD_NAME": "metadata.name", "NODE_NAME": "spec.nodeName"}
    return {
        "name": "microservice",
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",
        "env": [
            *({"name": key, "value": value} for key, value in variables.items()),
            *({"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in fields.items()),
        ],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": size, "limits": dict(size)},
        # A container that has spent its quota answers late: that is load, not death.
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": PORT},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 5,
        },
        "volumeMounts": [{"name": "application", "mountPath": mounted, "readOnly": True}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
