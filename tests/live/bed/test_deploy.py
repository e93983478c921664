"""`imbres-gym deploy` against an API server that speaks HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy_fake_api import FakeApi, serving, write_kubeconfig
from typer.testing import CliRunner, Result

from imbres_gym.cli import app

DEPLOYMENTS = "/apis/apps/v1/namespaces/shop/deployments"


def make_ready(item: dict[str, Any]) -> None:
    """What the deployment controller does in the end."""
    if item["kind"] == "Deployment":
        count = item["spec"]["replicas"]
        item["status"] = {"readyReplicas": count, "updatedReplicas": count, "observedGeneration": 1}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    fake.on_read = make_ready
    with serving(fake):
        yield fake


def deploy(api: FakeApi, folder: Path, *more: str) -> Result:
    kubeconfig = write_kubeconfig(folder / "kubeconfig", api.url)
    words = ["deploy", "bed-chain", "--context", "bed", "--kubeconfig", str(kubeconfig), "--namespace", "shop"]
    return CliRunner().invoke(app, [*words, *more])


def test_everything_is_applied_and_waited_for(api: FakeApi, tmp_path: Path) -> None:
    done = deploy(api, tmp_path, "--replicas", "2")
    assert done.exit_code == 0, done.output
    assert "frontend 2/2" in done.output
    assert api.objects["/api/v1/namespaces/shop"]["metadata"]["name"] == "shop"
    assert sorted(p for p in api.objects if p.startswith(DEPLOYMENTS)) == [
        f"{DEPLOYMENTS}/{name}" for name in ("catalogue", "frontend", "orders", "pricing")
    ]


def test_a_namespace_that_is_there_is_left_as_it_is(api: FakeApi, tmp_path: Path) -> None:
    api.objects["/api/v1/namespaces/shop"] = {"kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "b"}}}
    assert deploy(api, tmp_path).exit_code == 0
    assert api.objects["/api/v1/namespaces/shop"]["metadata"]["labels"] == {"a": "b"}


def test_what_does_not_get_ready_is_named_with_the_cluster_s_own_reason(api: FakeApi, tmp_path: Path) -> None:
    labels = {"imbres-gym.io/application": "bed-chain"}
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: insufficient cpu"}
    pod = {"kind": "Pod", "metadata": {"name": "p", "labels": labels}, "status": {"conditions": [condition]}}
    api.objects["/api/v1/namespaces/shop/pods/p"] = pod

    def all_but_orders(item: dict[str, Any]) -> None:
        if item["metadata"]["name"] != "orders":
            make_ready(item)

    api.on_read = all_but_orders
    done = deploy(api, tmp_path, "--timeout", "1s")
    assert done.exit_code == 2
    assert "not ready after 1 s: orders: 0/3 nodes: insufficient cpu" in done.output


def test_replicas_of_an_old_template_do_not_count_as_ready(api: FakeApi, tmp_path: Path) -> None:
    def old(item: dict[str, Any]) -> None:
        make_ready(item)
        if item["kind"] == "Deployment":
            item["metadata"]["generation"] = 2

    api.on_read = old
    assert "not ready after 1 s" in deploy(api, tmp_path, "--timeout", "1s").output


def test_delete_takes_what_carries_the_label_and_nothing_else(api: FakeApi, tmp_path: Path) -> None:
    assert deploy(api, tmp_path).exit_code == 0
    other = {"kind": "Deployment", "metadata": {"name": "other", "labels": {"imbres-gym.io/application": "else"}}}
    api.objects[f"{DEPLOYMENTS}/other"] = {**other, "spec": {"replicas": 1}}
    done = deploy(api, tmp_path, "--delete")
    assert done.exit_code == 0, done.output
    assert sorted(api.objects) == ["/api/v1/namespaces/shop", f"{DEPLOYMENTS}/other"]
    assert "nothing of bed-chain is there" in deploy(api, tmp_path, "--delete").output


def test_a_refusal_is_told_in_the_server_s_words(api: FakeApi, tmp_path: Path) -> None:
    api.refuse = {"/deployments": "deployments is forbidden: user u cannot patch"}
    done = deploy(api, tmp_path)
    assert done.exit_code == 2
    assert "Deployment frontend: the API server refused: deployments is forbidden" in done.output


def test_a_server_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    fake = FakeApi()
    fake.url = "http://127.0.0.1:9"
    done = deploy(fake, tmp_path)
    assert done.exit_code == 2
    assert "cannot reach the API server" in done.output
