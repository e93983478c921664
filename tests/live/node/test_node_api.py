"""What becomes of answers of the API server that are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_fakes import ApiServer, api_pod, spec

from imbres_gym.live.connection_plan import PlanStatus
from imbres_gym.live.kube import connect
from imbres_gym.live.node.api import ApiUnavailable, KubernetesApi

NAME = "shop.node-1"
STATUS = PlanStatus(observed_generation=1, applied_at=None, applied_pods=0, error=None)
REQUESTS: dict[str, Callable[[KubernetesApi], object]] = {
    "pods": lambda api: api.pods(),
    "namespace": lambda api: api.stopped("shop"),
    "status": lambda api: api.report(("shop", NAME), STATUS),
}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    server.pods = [api_pod("a")]
    server.put_plan(NAME, spec("a"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def api(server: ApiServer, tmp_path: Path) -> Iterator[KubernetesApi]:
    with connect("fake", "default", server.kubeconfig(tmp_path / "config")) as client:
        yield KubernetesApi(client, "node-1")


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("nonsense", [(200, b"<html>"), (200, b""), (502, b"<html>")])
def test_an_answer_that_cannot_be_read_is_none(
    server: ApiServer, api: KubernetesApi, request_name: str, nonsense: tuple[int, bytes]
) -> None:
    ask = REQUESTS[request_name]
    server.nonsense = nonsense
    with pytest.raises(ApiUnavailable, match="cannot be"):
        ask(api)
    server.nonsense = None
    ask(api)
