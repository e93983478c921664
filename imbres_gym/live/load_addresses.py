"""Where an application's entry microservices are reached."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imbres_gym.application import Application
from imbres_gym.config import ConfigError
from imbres_gym.live.load import PORT

if TYPE_CHECKING:
    from lightkube import Client

Addresses = dict[str, tuple[str, int]]


def entries(application: Application) -> list[str]:
    """Microservices that end users call."""
    return sorted({request.tree.target for request in application.request_classes.values()})


def from_url(application: Application, url: str) -> Addresses:
    """Addresses by a pattern such as `http://{microservice}:8080`.

    Raises:
        ConfigError: not a URL of HTTP.
    """
    found = {}
    for name in entries(application):
        try:
            parts = urlsplit(url.replace("{microservice}", name))
            port = parts.port or 80
        except ValueError:
            raise ConfigError(f"--url {url}: not a URL") from None
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigError(f"--url {url}: write for example http://{{microservice}}:{PORT}")
        found[name] = (parts.hostname, port)
    return found


def from_cluster(application: Application, client: Client, namespace: str) -> Addresses:
    """Cluster IPs of the Services, to which this machine needs a route, as a node or the test bed's machine has.

    Raises:
        ConfigError: a Service is missing, or the API server does not answer.
    """
    from lightkube.core.exceptions import ApiError
    from lightkube.resources.core_v1 import Service

    from imbres_gym.live.deploy import cluster_errors

    found = {}
    for name in entries(application):
        with cluster_errors(f"Service {name}"):
            try:
                service = client.get(Service, name, namespace=namespace)
            except ApiError as error:
                if error.status.code != 404:
                    raise
                raise ConfigError(f"namespace {namespace} has no Service {name!r}; deploy the application") from None
        if service.spec is None or service.spec.clusterIP in {None, "None"}:
            raise ConfigError(f"Service {name!r} has no cluster IP")
        found[name] = (str(service.spec.clusterIP), PORT)
    return found
