"""An application file becomes Kubernetes objects that mean the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from imbres_gym.application import Application, load_application
from imbres_gym.cli import app
from imbres_gym.config import ConfigError
from imbres_gym.live.connection_plan import APPLICATION_LABEL, MICROSERVICE_LABEL
from imbres_gym.live.deploy_manifests import DRAIN_S, PORT, DeployOptions, manifests, service_config

OPTIONS = DeployOptions("shop")


@pytest.fixture(scope="module")
def application() -> Application:
    return load_application("bed-chain")


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(only)


def variables(deployment: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in container(deployment)["env"]}


def test_every_microservice_has_a_deployment_and_a_service_of_its_name(application: Application) -> None:
    objects = manifests(application, OPTIONS)
    names = set(application.microservices)
    assert set(of_kind(objects, "Deployment")) == set(of_kind(objects, "Service")) == names
    assert {item["metadata"]["namespace"] for item in objects} == {"shop"}


def test_labels_are_those_of_the_contract_and_services_select_their_pods(application: Application) -> None:
    objects = manifests(application, OPTIONS)
    for name, deployment in of_kind(objects, "Deployment").items():
        labels = {APPLICATION_LABEL: "bed-chain", MICROSERVICE_LABEL: name}
        service = of_kind(objects, "Service")[name]
        assert deployment["metadata"]["labels"] == service["metadata"]["labels"] == labels
        assert deployment["spec"]["template"]["metadata"]["labels"] == labels
        assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
        assert [port["port"] for port in service["spec"]["ports"]] == [PORT]


def test_services_come_before_the_pods_that_learn_their_addresses(application: Application) -> None:
    kinds = [item["kind"] for item in manifests(application, OPTIONS)]
    assert kinds == sorted(kinds, key=["ConfigMap", "Service", "Deployment"].index)


def test_the_pods_read_the_very_application_that_is_simulated(application: Application) -> None:
    (mounted,) = of_kind(manifests(application, OPTIONS), "ConfigMap").values()
    config = json.loads(mounted["data"]["application.json"])
    assert Application.model_validate(config["application"]) == application
    assert (config["demand_shape"], config["store_shape"]) == (5.5, 9.0)


def test_containers_have_the_size_of_the_application_file() -> None:
    data = load_application("bed-chain").model_dump()
    data["microservices"]["orders"] |= {"cores": 0.25, "memory_mb": 96}
    deployments = of_kind(manifests(Application.model_validate(data), OPTIONS), "Deployment")
    sizes = {name: container(deployment)["resources"] for name, deployment in deployments.items()}
    assert sizes["orders"]["limits"] == sizes["orders"]["requests"] == {"cpu": "250m", "memory": "96M"}
    assert sizes["pricing"]["limits"] == {"cpu": "100m", "memory": "64M"}


def test_replicas_are_one_unless_told_otherwise(application: Application) -> None:
    options = DeployOptions("shop", replicas={"orders": 4})
    counts = {n: d["spec"]["replicas"] for n, d in of_kind(manifests(application, options), "Deployment").items()}
    assert counts == {"frontend": 1, "catalogue": 1, "pricing": 1, "orders": 4}


def test_replicas_of_an_unknown_microservice_are_refused_with_the_nearest_name(application: Application) -> None:
    with pytest.raises(ConfigError, match=r"no microservice 'order'.*orders"):
        manifests(application, DeployOptions("shop", replicas={"order": 2}))


def test_pods_send_spans_only_if_told_where(application: Application) -> None:
    silent = variables(of_kind(manifests(application, OPTIONS), "Deployment")["frontend"])
    assert "OTLP_URL" not in silent
    options = DeployOptions("shop", otlp_url="http://traces:4318", trace_sampling=0.25)
    talking = variables(of_kind(manifests(application, options), "Deployment")["frontend"])
    assert (talking["OTLP_URL"], talking["TRACE_SAMPLING"]) == ("http://traces:4318", "0.25")


def test_a_pod_may_serve_until_its_drain_is_over(application: Application) -> None:
    for deployment in of_kind(manifests(application, OPTIONS), "Deployment").values():
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > DRAIN_S
        assert variables(deployment)["DRAIN_S"] == str(DRAIN_S)


def test_pods_have_no_rights_that_they_do_not_need(application: Application) -> None:
    for deployment in of_kind(manifests(application, OPTIONS), "Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        rights = container(deployment)["securityContext"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert rights["readOnlyRootFilesystem"] is True


def test_containers_of_a_microservice_are_spread_over_the_nodes(application: Application) -> None:
    for name, deployment in of_kind(manifests(application, OPTIONS), "Deployment").items():
        (spread,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert (spread["maxSkew"], spread["topologyKey"]) == (1, "kubernetes.io/hostname")
        assert spread["labelSelector"]["matchLabels"][MICROSERVICE_LABEL] == name


def test_a_changed_application_starts_new_pods(application: Application) -> None:
    def template(of: Application) -> dict[str, Any]:
        return dict(of_kind(manifests(of, OPTIONS), "Deployment")["frontend"]["spec"]["template"]["metadata"])

    changed = application.model_copy(update={"hop_ms": 2.0})
    assert service_config(changed) != service_config(application)
    assert template(changed)["annotations"] != template(application)["annotations"]
    assert template(application) == template(load_application("bed-chain"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("frontEnd", "front-end"), ("front_end", "front-end"), ("2nd", None), ("x" * 64, None)],
)
def test_names_that_kubernetes_does_not_take_are_refused(name: str, hint: str | None) -> None:
    text = json.dumps(load_application("bed-chain").model_dump(mode="json")).replace('"frontend', f'"{name}')
    with pytest.raises(
        ConfigError, match=f"microservices: '{name}' cannot be the name of a Kubernetes Service"
    ) as said:
        manifests(Application.model_validate_json(text), OPTIONS)
    assert ("for example" in str(said.value)) == (hint is not None)
    assert hint is None or repr(hint) in str(said.value)


@pytest.mark.parametrize("name", ["social-network", "hotel-reservation", "media-service", "train-ticket"])
def test_every_shipped_application_can_be_deployed(name: str) -> None:
    shipped = load_application(name)
    assert len(of_kind(manifests(shipped, OPTIONS), "Deployment")) == len(shipped.microservices)


def test_a_dry_run_prints_the_objects_and_asks_no_cluster(application: Application) -> None:
    words = ["deploy", "bed-chain", "--kubeconfig", "/nonexistent", "--namespace", "shop"]
    done = CliRunner().invoke(app, [*words, "--replicas", "2", "--replicas", "orders=3", "--dry-run"])
    assert done.exit_code == 0, done.output
    options = DeployOptions("shop", replicas={"frontend": 2, "catalogue": 2, "pricing": 2, "orders": 3})
    assert list(yaml.safe_load_all(done.stdout)) == manifests(application, options)
    assert "&id" not in done.stdout


@pytest.mark.parametrize("word", ["two", "=2", "orders=", "orders=-1"])
def test_malformed_replicas_are_refused(word: str) -> None:
    done = CliRunner().invoke(app, ["deploy", "bed-chain", "--replicas", word, "--dry-run"])
    assert done.exit_code == 2
    assert f"--replicas {word}: write a number" in done.output


@pytest.mark.parametrize("more", [[], ["--delete"]])
def test_the_context_must_be_named(more: list[str]) -> None:
    done = CliRunner().invoke(app, ["deploy", "bed-chain", *more])
    assert done.exit_code == 2
    assert "missing: --context" in done.output
